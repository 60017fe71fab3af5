"""The QUIC state machine with credit by consumption: what is not taken holds the sender up.

The library doubles its receive windows as bytes arrive, so that a reader who rests would be sent everything, into memory.
Here both windows stand on what the application has taken (`credit`). The library goes on writing the frames; it is only
shown nothing as arrived where it would double.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from aioquic.quic.connection import END_STATES, QuicConnection
from aioquic.quic.packet import QuicErrorCode

from octaskly_quic.credit import CONNECTION_WINDOW_BYTES, MAX_STREAMS, STREAM_WINDOW_BYTES, raised_limit

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import NetworkAddress
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream

PACKETS_A_KEY: Final = 1 << 22
"""Half of what RFC 9001 (6.6) lets one key of AES-GCM protect: five gigabytes, which a worker moves in a day."""


class CreditedConnection(QuicConnection):
    """A connection that gives credit for what was taken, and lets only clients open streams.

    As a server it allows one stream at a time, and `MAX_STREAMS` once it trusts.
    """

    def __init__(self, *, configuration: QuicConfiguration, **more: Any) -> None:
        super().__init__(configuration=configuration, **more)
        self.is_closed_by_us = False
        self._window = configuration.max_data
        self._taken_in_all = 0
        self._taken: dict[int, int] = {}
        self._key_ends_at = PACKETS_A_KEY
        # A turn of the loop gathers enough to acknowledge; to wait a millisecond longer doubles a LAN's round trip.
        self._ack_delay = 0.0
        self._is_trusted = configuration.is_client
        streams = 0 if configuration.is_client else 1
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = streams
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0

    # --- the end -----------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Return whether nothing comes or goes any more."""
        return self._state in END_STATES

    @property
    def end(self) -> tuple[int, str]:
        """Return the code and the reason of the end; 0 for an orderly one."""
        event = self._close_event
        return (int(event.error_code), event.reason_phrase) if event is not None else (0, "")

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """Close, and remember whose wish it was."""
        self.is_closed_by_us = self.is_closed_by_us or self._close_event is None
        super().close(error_code, frame_type, reason_phrase)

    # --- sending -----------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """Return what is to be sent, under a new key when the old one has served long enough."""
        if self._packet_number >= self._key_ends_at:
            self._key_ends_at = self._packet_number + PACKETS_A_KEY
            self.request_key_update()
        return super().datagrams_to_send(now)

    # --- receiving ---------------------------------------------------------------------------------

    def trust(self) -> None:
        """Give the whole window and all streams: whoever sends has proved who it is."""
        if not self._is_trusted:
            self._is_trusted = True
            self._window = CONNECTION_WINDOW_BYTES
            self._local_max_streams_bidi.value += MAX_STREAMS - 1

    def take(self, stream_id: int, count: int) -> None:
        """Hear that so many bytes of a stream are off our hands."""
        self._taken[stream_id] = self._taken.get(stream_id, 0) + count
        self._taken_in_all += count

    def take_rest(self, stream_id: int) -> None:
        """Hear that nobody waits for what is missing of a stream that was reset."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.take(stream_id, stream.receiver.highest_offset - self._taken.get(stream_id, 0))

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        limit.value = raised_limit(limit.value, self._taken_in_all, self._window)
        used, limit.used = limit.used, 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        taken = self._taken.get(cast("int", stream.stream_id), 0)
        receiver = stream.receiver
        stream.max_stream_data_local = raised_limit(stream.max_stream_data_local, taken, STREAM_WINDOW_BYTES)
        if stream.max_stream_data_local == stream.max_stream_data_local_sent or receiver.is_finished:
            return
        arrived, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder, space, stream)
        finally:
            receiver.highest_offset = arrived

    # --- streams -----------------------------------------------------------------------------------

    def open_stream(self) -> int:
        """Return the id of a new stream; what is written waits while the peer allows no further one."""
        self.forget_finished()
        stream_id = self.get_next_available_stream_id()
        self.send_stream_data(stream_id, b"")
        return stream_id

    def has_stream(self, stream_id: int) -> bool:
        """Return whether something of a stream may still come or go."""
        return stream_id in self._streams

    def forget_finished(self) -> None:
        """Let go of what was counted for streams that are over."""
        self._taken = {stream_id: taken for stream_id, taken in self._taken.items() if stream_id in self._streams}

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of what was written has never been sent; what is on its way the peer's window bounds."""
        stream = self._streams.get(stream_id)
        return stream.sender._buffer_stop - stream.sender.highest_offset if stream is not None else 0  # noqa: SLF001

    def has_sent_all(self, stream_id: int) -> bool:
        """Return whether the peer has all of a stream that was ended, or was told that there is no more."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.sender.is_finished

    def stop(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to send no more on a stream, if it may."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, error_code)
