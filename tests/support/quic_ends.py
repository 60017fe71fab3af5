"""Our two ends of QUIC on loopback, for the time of a test: a server that does as a test says, and a client."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from octaskly_quic.configuration import client_configuration, server_configuration
from octaskly_quic.dialing import connect
from octaskly_quic.listening import ListenerLimits, listen
from octaskly_quic.live_connection import READ_BYTES
from octaskly_wire import identity

HOST = "127.0.0.1"
CLUSTER = "streams"
NAME = identity.dispatcher_server_name(CLUSTER)
NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca(CLUSTER, NOW)
KEY = ec.generate_private_key(ec.SECP256R1())
LEAF = identity.issue_dispatcher_certificate(CA, CA_KEY, CLUSTER, KEY.public_key(), NOW)
OWN = server_configuration(LEAF, KEY)
TRUST = client_configuration([CA], NAME)
DEFAULT_LIMITS = ListenerLimits()
PATIENCE_S = 30.0


@contextlib.asynccontextmanager
async def serving(on_stream, configuration=OWN, limits=DEFAULT_LIMITS):
    """Listen for the time of a test."""
    async with asyncio.timeout(PATIENCE_S):
        listening = await listen(HOST, 0, lambda: configuration, on_stream, limits=limits)
        try:
            yield listening
        finally:
            listening.close()
            await listening.wait_closed()


@contextlib.asynccontextmanager
async def dialled(port, configuration=TRUST):
    """Stay connected for the time of a test."""
    client = await connect(HOST, port, configuration, timeout_s=PATIENCE_S)
    try:
        yield client
    finally:
        client.abort()


async def echo(reader, writer):
    """Send back what comes, and end when it ends."""
    writer.transport.trust()
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()
