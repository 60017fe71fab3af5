"""Connect over TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl

from octaskly_wire import tls
from octaskly_wire.codec import Codec
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Transport
from worker_node.config import Address
from worker_node.shell.dialing import READ_BYTES, Connection, Trust


async def connect(address: Address, trust: Trust | None, codec: Codec) -> Connection:
    """Return a connection on which nothing has been said; raise OSError, WireError or TimeoutError."""
    reader, writer = await asyncio.open_connection(
        address.host,
        address.port,
        ssl=client_context(trust) if trust else tls.unverified_client_context(),
        server_hostname=trust.server_name if trust else "",
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        limit=READ_BYTES,
    )
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    try:
        tls.check_cipher(secured)
    except BaseException:
        writer.transport.abort()
        raise
    leaf = secured.getpeercert(binary_form=True)
    return Connection(address, Transport.TCP, leaf, reader, writer, WorkerSession(codec))


def client_context(trust: Trust) -> ssl.SSLContext:
    """Return a context that believes these CAs, and shows our certificate if we have one."""
    trusted, identity = b"".join(trust.trusted), trust.identity
    if identity is None:
        return tls.client_context(trusted, None, None)
    return tls.client_context(trusted, identity.certificate, identity.key)
