"""The dispatcher's end of QUIC: one UDP socket, its connections, and what keeps strangers from using it up.

A stranger costs at first a reply that keeps nothing (a Retry, which proves the address), and both replies and handshakes
are counted by the second: a flood is dropped before any cryptography. Who has no stream whose peer has proved itself is
closed after some seconds, and is the first to go where there are too many.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from socket import AF_INET, AF_INET6
from typing import Final, cast

from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from octaskly_quic.credited_connection import CreditedConnection
from octaskly_quic.datagrams import Address, DatagramSocket
from octaskly_quic.live_connection import LiveConnection, OnStream
from octaskly_quic.rate import Rate
from octaskly_quic.stream_transport import QuicStreamTransport

CONNECTION_ID_BYTES: Final = 8
LONG_HEADER: Final = 0x80
TLS_REFUSALS: Final = range(QuicErrorCode.CRYPTO_ERROR, QuicErrorCode.CRYPTO_ERROR + 0x100)

OnRefused = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What strangers may take."""

    max_untrusted: int = 256
    """Connections without a stream whose peer has proved itself; one more, and the oldest goes."""
    untrusted_timeout_s: float = 10.0
    replies_per_s: float = 2000.0
    """First datagrams of unknown connections that are looked at."""
    handshakes_per_s: float = 100.0
    """A handshake costs some milliseconds."""


async def listen(
    host: str,
    port: int,
    configuration: Callable[[], QuicConfiguration],
    on_stream: OnStream,
    *,
    limits: ListenerLimits,
    on_refused: OnRefused = lambda _address, _reason: None,
) -> QuicListening:
    """Listen on a UDP port; raises OSError when it is taken. `configuration` is asked for each new connection.

    `on_refused` hears the address of each peer whose handshake we have refused, and why.
    """
    listening = QuicListening(host, port, configuration, on_stream, limits, on_refused)
    await listening.socket.start()
    return listening


class QuicListening:
    """The socket and its connections, by the ids that datagrams carry."""

    def __init__(
        self,
        host: str,
        port: int,
        configuration: Callable[[], QuicConfiguration],
        on_stream: OnStream,
        limits: ListenerLimits,
        on_refused: OnRefused,
    ) -> None:
        self.socket = DatagramSocket(AF_INET6 if ":" in host else AF_INET, (host, port), self._on_datagram)
        self._configuration = configuration
        self._on_stream = on_stream
        self._limits = limits
        self.on_refused: Final = on_refused
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[bytes, ServedConnection] = {}
        self._untrusted: dict[ServedConnection, None] = {}
        self._connections: set[ServedConnection] = set()
        self._retry = QuicRetryTokenHandler()
        self._replies = Rate(limits.replies_per_s)
        self._handshakes = Rate(limits.handshakes_per_s)
        self._is_closing = False

    @property
    def port(self) -> int:
        """Return the UDP port."""
        return self.socket.port

    def _on_datagram(self, data: bytes, address: Address) -> None:
        """Bring a datagram to its connection, or see whether it begins one."""
        if not data:
            return
        if not data[0] & LONG_HEADER:
            connection = self._by_id.get(data[1 : 1 + CONNECTION_ID_BYTES])
        else:
            try:
                header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
            except ValueError:
                return
            connection = self._by_id.get(header.destination_cid) or self._welcome(header, len(data), address)
        if connection is not None:
            connection.receive(data, address)

    # --- strangers ---------------------------------------------------------------------------------

    def _welcome(self, header: QuicHeader, size: int, address: Address) -> ServedConnection | None:
        """Return a new connection for a peer that has shown to be at its address; ask others to show it."""
        if (
            self._is_closing
            or header.packet_type != QuicPacketType.INITIAL
            or header.version != QuicProtocolVersion.VERSION_1
            or size < SMALLEST_MAX_DATAGRAM_SIZE
            or not self._replies.allows(self._loop.time())
        ):
            return None
        if not header.token:
            self.socket.send(self._retry_packet(header, address), address)
            return None
        try:
            first_id = self._retry.validate_token(
                address=address, destination_cid=header.destination_cid, token=header.token, now=self._loop.time()
            )
        except ValueError:
            return None
        if not self._handshakes.allows(self._loop.time()):
            return None
        quic = CreditedConnection(
            configuration=self._configuration(),
            original_destination_connection_id=first_id,
            retry_source_connection_id=header.destination_cid,
        )
        connection = ServedConnection(quic, self, self._on_stream, header.destination_cid)
        self._connections.add(connection)
        self.on_untrusted(connection)
        return connection

    def _retry_packet(self, header: QuicHeader, address: Address) -> bytes:
        source_id = os.urandom(CONNECTION_ID_BYTES)
        return encode_quic_retry(
            version=cast("int", header.version),
            source_cid=source_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=self._retry.create_token(
                address=address,
                original_destination_connection_id=header.destination_cid,
                retry_source_connection_id=source_id,
                now=self._loop.time(),
            ),
        )

    # --- connections -------------------------------------------------------------------------------

    def register(self, connection_id: bytes, connection: ServedConnection) -> None:
        """Bring datagrams with this id to the connection."""
        self._by_id[connection_id] = connection

    def unregister(self, connection_id: bytes) -> None:
        """Bring no more datagrams with this id."""
        self._by_id.pop(connection_id, None)

    def on_untrusted(self, connection: ServedConnection) -> None:
        """Hear that none of a connection's peers has proved itself: it has some seconds."""
        self._untrusted[connection] = None
        connection.expire_after(self._limits.untrusted_timeout_s)
        if len(self._untrusted) > self._limits.max_untrusted:
            next(iter(self._untrusted)).abort()

    def on_trusted(self, connection: ServedConnection) -> None:
        """Hear that a connection may stay."""
        self._untrusted.pop(connection, None)

    def on_over(self, connection: ServedConnection) -> None:
        """Hear that a connection has ended."""
        self._untrusted.pop(connection, None)
        self._connections.discard(connection)

    # --- ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Welcome nobody more, and end all connections after what they have buffered."""
        self._is_closing = True
        for connection in list(self._connections):
            connection.close()

    async def wait_closed(self) -> None:
        """Wait for the connections to end, which takes a few seconds at most, then give the port back."""
        await asyncio.gather(*(connection.wait_closed() for connection in list(self._connections)))
        self.socket.close()


class ServedConnection(LiveConnection):
    """A connection that somebody opened to us, with the streams that he opens."""

    def __init__(
        self, quic: CreditedConnection, listening: QuicListening, on_stream: OnStream, first_id: bytes
    ) -> None:
        super().__init__(quic, listening.socket.send)
        self._listening = listening
        self._serve = on_stream
        self._ids = {first_id, quic.host_cid}
        for connection_id in self._ids:
            listening.register(connection_id, self)
        self._old_streams: set[int] = set()
        self._serving: set[asyncio.Future[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def is_trusted(self) -> bool:
        """Return whether a peer on one of the streams has proved who it is."""
        return any(stream.is_trusted for stream in self._streams.values())

    def expire_after(self, timeout_s: float) -> None:
        """End then, unless the connection is trusted."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_later(timeout_s, self._expire)

    def _expire(self) -> None:
        if not self.is_trusted:
            self.abort()

    def on_stream_trusted(self) -> None:
        """Hear that a stream's peer has proved who it is: the connection stays."""
        super().on_stream_trusted()
        self._listening.on_trusted(self)

    def forget(self, stream: QuicStreamTransport) -> None:
        """Hear that nobody uses a stream any more."""
        super().forget(stream)
        if self._quic.has_stream(stream.stream_id):
            self._old_streams.add(stream.stream_id)
        if stream.is_trusted and not self.is_closed and not self.is_trusted:
            self._listening.on_untrusted(self)

    def _accept(self, stream_id: int) -> QuicStreamTransport | None:
        if stream_id in self._old_streams or self._is_closing:
            return None
        self._quic.forget_finished()
        self._old_streams = {old for old in self._old_streams if self._quic.has_stream(old)}
        reader, writer = self._new_stream(stream_id)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return self._streams[stream_id]

    def _on_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionIdIssued):
            self._ids.add(event.connection_id)
            self._listening.register(event.connection_id, self)
        elif isinstance(event, events.ConnectionIdRetired):
            self._ids.discard(event.connection_id)
            self._listening.unregister(event.connection_id)
        else:
            super()._on_event(event)

    def _end(self) -> None:
        super()._end()
        if self._expiry is not None:
            self._expiry.cancel()
        for connection_id in self._ids:
            self._listening.unregister(connection_id)
        code, reason = self._quic.end
        if self._quic.is_closed_by_us and code in TLS_REFUSALS:
            self._listening.on_refused(str((self.peer_address or ("?",))[0]), reason)
        self._listening.on_over(self)
