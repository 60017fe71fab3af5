"""Connect over QUIC: the first stream of a connection carries the session, further ones can follow on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octaskly_wire.codec import Codec
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import LinkPurpose, Transport
from worker_node.config import NO_QUIC, Address
from worker_node.shell.dialing import Connection, Trust

if TYPE_CHECKING:
    from octaskly_quic.dialing import QuicClient


async def connect(
    address: Address, trust: Trust | None, codec: Codec, timeout_s: float = HANDSHAKE_TIMEOUT_S
) -> Connection:
    """Return a connection on which nothing has been said; raise OSError, WireError or TimeoutError."""
    # Here, since aioquic may be missing and is slow to load.
    from octaskly_quic import configuration, dialing

    if address.quic_port == NO_QUIC:
        raise ConnectionRefusedError(f"the dispatcher at {address} offers no QUIC")
    carrier = await dialing.connect(
        address.host,
        address.quic_port or address.port,
        configuration.client_configuration(trust.trusted, trust.server_name)
        if trust
        else configuration.unverified_client_configuration(),
        timeout_s=timeout_s,
    )
    try:
        connection = await open_stream(carrier, address, codec, LinkPurpose.CONTROL)
    except BaseException:
        carrier.abort()
        raise
    connection.carrier = carrier
    return connection


async def open_stream(carrier: QuicClient, address: Address, codec: Codec, purpose: LinkPurpose) -> Connection:
    """Return one more stream on a QUIC connection, with a session of its own; it does not end the connection."""
    reader, writer = await carrier.open_stream()
    session = WorkerSession(codec, purpose)
    return Connection(address, Transport.QUIC, carrier.peer_certificate, reader, writer, session)
