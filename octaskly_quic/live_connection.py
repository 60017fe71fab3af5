"""Drives one QUIC connection: datagrams and timers in, datagrams and streams out. Both ends are built on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from octaskly_quic.credited_connection import CreditedConnection
from octaskly_quic.datagrams import Address
from octaskly_quic.stream_transport import QuicStreamTransport

logger = logging.getLogger(__name__)

OnStream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

READ_BYTES: Final = 64 << 10
"""A stream reader holds twice as much before it rests, also of a stranger's."""

LINGER_S: Final = 5.0
"""How long a connection that is closed may take to send what its streams have buffered."""


class LiveConnection:
    """One connection and its streams. Closing is idempotent."""

    def __init__(self, quic: CreditedConnection, send: Callable[[bytes, Address], None]) -> None:
        self.is_closed = False
        self.on_closed: Callable[[], None] | None = None
        """Called once, when nothing comes or goes any more."""
        self._quic = quic
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, QuicStreamTransport] = {}
        self._is_closing = False
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._is_transmit_due = False

    @property
    def peer_address(self) -> Address | None:
        """Return where the peer is at present."""
        return self._quic.get_peer_address()

    @property
    def end_error(self) -> ConnectionError | None:
        """Return why the connection ended; None while it stands and after an orderly end."""
        code, reason = self._quic.end
        return ConnectionResetError(reason or f"QUIC error {code}") if code else None

    # --- datagrams and time ------------------------------------------------------------------------

    def receive(self, data: bytes, address: Address) -> None:
        """Take a datagram in."""
        if self.is_closed:
            return
        try:
            self._quic.receive_datagram(data, address, now=time.monotonic())
            self._handle_events()
        except Exception:  # A datagram must hurt nobody but its sender.
            logger.exception(
                "A datagram from %s broke its connection", address[0], extra={"event": "connection_failed"}
            )
            self._quic.close(QuicErrorCode.INTERNAL_ERROR, reason_phrase="a datagram broke the connection")
            self._end()
        self._transmit_soon()

    def _transmit_soon(self) -> None:
        # Once for all datagrams and writes of this turn of the loop.
        if not self._is_transmit_due and not self.is_closed:
            self._is_transmit_due = True
            self._loop.call_soon(self._transmit)

    def _transmit(self) -> None:
        self._is_transmit_due = False
        if self.is_closed:
            return
        for data, address in self._quic.datagrams_to_send(now=time.monotonic()):
            self._send(data, address)
        if self._quic.is_over:
            self._end()
            return
        for stream in list(self._streams.values()):
            stream.after_transmit()
        self._arm_timer()

    def _arm_timer(self) -> None:
        due_at = self._quic.get_timer()
        if due_at is None or (self._timer is not None and self._timer_at <= due_at):
            return  # One that fires early only looks, and is armed again: cheaper than moving it with each datagram.
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        # Not the loop's time: uvloop's is whole milliseconds, and the round trip of a LAN is less.
        self._timer = self._loop.call_later(max(0.0, due_at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._quic.handle_timer(now=time.monotonic())
        self._handle_events()
        self._transmit()

    # --- events ------------------------------------------------------------------------------------

    def _handle_events(self) -> None:
        while (event := self._quic.next_event()) is not None:
            self._on_event(event)

    def _on_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            stream = self._streams.get(event.stream_id) or self._accept(event.stream_id)
            if stream is not None:
                stream.feed(event.data, is_last=event.end_stream)
            else:
                self.take(event.stream_id, len(event.data))
        elif isinstance(event, events.StreamReset):
            self._quic.take_rest(event.stream_id)
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.on_reset()
            else:
                self._quic.reset_stream(event.stream_id, event.error_code)
        elif isinstance(event, events.StopSendingReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.on_stopped()

    def _accept(self, stream_id: int) -> QuicStreamTransport | None:  # noqa: ARG002 - for ends that accept
        """Return a transport for a stream that the peer has opened; None for what is left of one that is over."""
        return None

    # --- streams -----------------------------------------------------------------------------------

    def _new_stream(self, stream_id: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport = QuicStreamTransport(self, stream_id, protocol)
        self._streams[stream_id] = transport
        protocol.connection_made(transport)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    def write(self, stream_id: int, data: bytes | bytearray | memoryview, *, is_last: bool = False) -> None:
        """Buffer bytes of a stream."""
        if not self.is_closed:
            self._quic.send_stream_data(stream_id, data, end_stream=is_last)  # type: ignore[arg-type]
            self._transmit_soon()

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of a stream was never sent."""
        return self._quic.unsent_bytes(stream_id)

    def has_sent_all(self, stream_id: int) -> bool:
        """Return whether an ended stream has nothing left to send."""
        return self.is_closed or self._quic.has_sent_all(stream_id)

    def take(self, stream_id: int, count: int) -> None:
        """Hear that bytes of a stream were taken; the peer may send as many more."""
        if count:
            self._quic.take(stream_id, count)
            self._transmit_soon()

    def stop(self, stream_id: int, error_code: int) -> None:
        """Have the peer send no more."""
        self._quic.stop(stream_id, error_code)
        self._transmit_soon()

    def reset(self, stream_id: int, error_code: int) -> None:
        """Throw a stream away in both directions."""
        self._quic.reset_stream(stream_id, error_code)
        self.stop(stream_id, error_code)

    def on_stream_trusted(self) -> None:
        """Hear that a stream's peer has proved who it is."""
        self._quic.trust()
        self._transmit_soon()

    def forget(self, stream: QuicStreamTransport) -> None:
        """Hear that nobody uses a stream any more."""
        self._streams.pop(stream.stream_id, None)
        if self._is_closing and not self._streams:
            self._finish()

    # --- ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all streams after what they have buffered, then the connection."""
        if self._is_closing or self.is_closed:
            return
        self._is_closing = True
        self._linger = self._loop.call_later(LINGER_S, self.abort)
        for stream in list(self._streams.values()):
            stream.close()
        if not self._streams:
            self._finish()

    def abort(self) -> None:
        """End the connection at once."""
        if not self.is_closed:
            self._is_closing = True
            self._finish()
            if self.peer_address is None:  # Nobody was ever spoken to.
                self._end()
            else:
                self._transmit()

    async def wait_closed(self) -> None:
        """Wait until nothing comes or goes any more."""
        await self._over.wait()

    def _finish(self) -> None:
        self._quic.close()
        self._transmit_soon()

    def _end(self) -> None:
        self.is_closed = self._is_closing = True
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        for stream in list(self._streams.values()):
            stream.on_connection_over(self.end_error)
        self._over.set()
        if self.on_closed is not None:
            self.on_closed()
