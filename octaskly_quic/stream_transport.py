"""One QUIC stream as a transport of asyncio: its readers and writers work on it as they do on TCP."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from octaskly_quic.live_connection import LiveConnection

HIGH_WATER_BYTES: Final = 256 << 10
LOW_WATER_BYTES: Final = 64 << 10
"""Of what is written and was never sent: above the one a writer waits, until it is below the other."""

LINGER_S: Final = 5.0
"""How long a closed stream may take to send what is buffered."""

CLOSED: Final = 0
ABORTED: Final = 1
"""Why a stream is stopped or reset, as the peer is told."""


class QuicStreamTransport(asyncio.Transport):
    """Reads and writes one stream; a protocol that rests gives the sender no credit."""

    def __init__(self, connection: LiveConnection, stream_id: int, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.stream_id = stream_id
        self.is_trusted = False
        self._connection = connection
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._received: deque[bytes] = deque()
        self._is_reading = True
        self._has_ended = False
        """Whether the peer's last byte has come."""
        self._has_told_end = False
        self._is_write_over = False
        self._is_stopped = False
        """Whether the peer reads no more."""
        self._is_writer_held = False
        self._high, self._low = HIGH_WATER_BYTES, LOW_WATER_BYTES
        self._is_closing = False
        self._is_lost = False
        self._linger: asyncio.TimerHandle | None = None

    # --- what asyncio asks for ---------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "peername", the peer's present address, or "quic", the connection."""
        if name == "peername":
            return self._connection.peer_address
        return self._connection if name == "quic" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let somebody else read."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who reads."""
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the stream is closed, or about to be."""
        return self._is_closing or self._connection.is_closed

    # --- reading -----------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Return whether the protocol wants bytes."""
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        """Deliver nothing until reading is resumed: the sender's credit runs out."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Deliver again, soon."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.call_soon(self._deliver)

    def feed(self, data: bytes, *, is_last: bool) -> None:
        """Take what came in."""
        self._has_ended = self._has_ended or is_last
        if self._is_closing:
            self._connection.take(self.stream_id, len(data))
            return
        if data:
            self._received.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._received and self.is_reading():
            self._connection.take(self.stream_id, self._hand_over())
        if self._received or not self._has_ended or self._has_told_end or not self.is_reading():
            return
        self._has_told_end = True
        stays_open = cast("asyncio.Protocol", self._protocol).eof_received()
        if self._is_stopped or self._connection.is_closed:
            self._lose(None)
        elif not stays_open:
            self.close()

    def _hand_over(self) -> int:
        """Give the protocol what one call takes; return how much it was."""
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            data = self._received.popleft()
            cast("asyncio.Protocol", self._protocol).data_received(data)
            return len(data)
        buffer = memoryview(self._protocol.get_buffer(-1))
        count = 0
        while self._received and count < len(buffer):
            data = self._received.popleft()
            room = len(buffer) - count
            if len(data) > room:
                self._received.appendleft(data[room:])
                data = data[:room]
            buffer[count : count + len(data)] = data
            count += len(data)
        self._protocol.buffer_updated(count)
        return count

    # --- writing -----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer bytes and send them soon; what is written after the end, or for nobody, is dropped."""
        if self._is_write_over or self._is_closing or not data:
            return
        self._connection.write(self.stream_id, data)
        self._hold_writer()

    def can_write_eof(self) -> bool:
        """Return True: a stream ends in one direction at a time."""
        return True

    def write_eof(self) -> None:
        """End this direction after what is buffered."""
        if not self._is_write_over:
            self._is_write_over = True
            self._connection.write(self.stream_id, b"", is_last=True)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were never sent."""
        return self._connection.unsent_bytes(self.stream_id)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes; raises ValueError unless 0 <= low <= high."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        self._hold_writer()

    def _hold_writer(self) -> None:
        if not self._is_writer_held and self.get_write_buffer_size() > self._high:
            self._is_writer_held = True
            self._protocol.pause_writing()

    def _release_writer(self) -> None:
        if self._is_writer_held and (self._is_stopped or self.get_write_buffer_size() <= self._low):
            self._is_writer_held = False
            self._protocol.resume_writing()

    # --- ending ------------------------------------------------------------------------------------

    def trust(self) -> None:
        """Hear that the peer of this stream has proved who it is."""
        if not self._is_lost:
            self.is_trusted = True
            self._connection.on_stream_trusted()

    def close(self) -> None:
        """Read no more; end the stream after what is buffered."""
        if self._is_closing:
            return
        self._is_closing = True
        self._drop_received()
        if self._connection.is_closed:
            self._lose(None)
            return
        self.write_eof()
        if not self._has_ended:
            self._connection.stop(self.stream_id, CLOSED)
        # A peer that is away takes nothing more: whoever reads here is to hear of the end all the same.
        self._linger = self._loop.call_later(LINGER_S, self.abort)
        self.after_transmit()

    def abort(self) -> None:
        """End the stream at once, and let the peer know."""
        if not self._is_lost:
            self._connection.reset(self.stream_id, ABORTED)
            self._lose(None)

    def after_transmit(self) -> None:
        """See whether a writer may go on, and whether a closed stream is done."""
        self._release_writer()
        if self._is_closing and self._connection.has_sent_all(self.stream_id):
            self._lose(None)

    def on_stopped(self) -> None:
        """Hear that the peer reads no more."""
        self._is_stopped = self._is_write_over = True
        if self._is_closing or self._has_told_end:
            self._lose(None)
        else:
            self._release_writer()

    def on_reset(self) -> None:
        """Hear that the peer has thrown the stream away."""
        self._has_ended = True
        if not self._is_closing:
            self._connection.reset(self.stream_id, ABORTED)
            self._lose(ConnectionResetError("the peer reset the stream"))

    def on_connection_over(self, error: Exception | None) -> None:
        """Hear that the connection has ended; what came before an orderly end can still be read."""
        self._is_stopped = self._is_write_over = True
        if error is None and not self._is_closing:
            self._has_ended = True
            self._release_writer()
            self._deliver()
            if not self._has_told_end:
                return
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = self._is_write_over = True
        if self._linger is not None:
            self._linger.cancel()
        self._drop_received()
        self._connection.forget(self)
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)

    def _drop_received(self) -> None:
        self._connection.take(self.stream_id, sum(map(len, self._received)))
        self._received.clear()
