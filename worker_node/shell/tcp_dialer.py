"""Connect over TCP and TLS: enrol with a join token, or open a session with the worker's identity.

Nothing is sent before the peer is proven, with one exception: FetchCa, which carries nothing, asks an
unproven peer for its CA certificate. Only when that has the digest of the join token is it trusted, and only
on a second, verified connection does the token's secret travel.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octaskly_wire import tls
from octaskly_wire.codec import Codec
from octaskly_wire.errors import BadProof, LinkLost
from octaskly_wire.identity import (
    ca_digest,
    check_worker_certificate,
    dispatcher_server_name,
    make_certificate_request,
    public_key_sha256,
)
from octaskly_wire.join_token import JoinToken
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S, PROTOCOL_VERSION
from octaskly_wire.messages import (
    CaBundle,
    Challenge,
    Enrol,
    Enrolled,
    FetchCa,
    FromWorker,
    ToWorker,
    Welcome,
)
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, LinkPurpose
from worker_node.config import Address
from worker_node.shell.keyfile import Identity
from worker_node.shell.proving import DispatcherRefused, Expected, Proof, expected

__all__ = ["READ_BYTES", "TRANSPORT", "Connection", "DispatcherRefused", "check_identity", "enrol", "open_session"]

TRANSPORT: Final = "tcp"
READ_BYTES: Final = 256 << 10


@dataclass
class Connection:
    """A TLS connection with its protocol session and the messages that are in but not looked at yet."""

    address: Address
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: WorkerSession
    pending: deque[ToWorker]

    async def send(self, message: FromWorker) -> None:
        """Send one message of the handshake."""
        self.writer.write(self.session.encode(message))
        await self.writer.drain()

    async def expect(self, kind: type[Expected]) -> Expected:
        """Return the next message, which must be of this kind; raise DispatcherRefused when it is a refusal."""
        while not self.pending:
            data = await self.reader.read(READ_BYTES)
            if not data:
                raise LinkLost("the dispatcher closed the connection during the handshake")
            self.pending.extend(self.session.feed(data))
        return expected(self.pending.popleft(), kind)

    async def close(self) -> None:
        """End the connection, without waiting for the peer's good-bye."""
        self.writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self.writer.wait_closed()


async def enrol(
    address: Address, token: JoinToken, key: Ed25519PrivateKey, name: str, codec: Codec
) -> tuple[Identity, Admission]:
    """Use a join token; raise BadProof before the secret is sent when the peer is not the token's dispatcher."""
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        async with _connected(address, tls.unverified_client_context(), None, codec) as connection:
            await connection.send(FetchCa())
            bundle = await connection.expect(CaBundle)
        if not secrets.compare_digest(ca_digest(bundle.certificate), token.ca_digest):
            raise BadProof(f"the dispatcher at {address} is not the one that made this join token")
        context = tls.client_context(bundle.certificate, None, None)
        server_name = dispatcher_server_name(bundle.cluster_id)
        async with _connected(address, context, server_name, codec) as connection:
            request = make_certificate_request(key)
            await connection.send(Enrol(PROTOCOL_VERSION, token.token_id, token.secret, request, name))
            enrolled = await connection.expect(Enrolled)
    if enrolled.cluster_id != bundle.cluster_id:
        raise BadProof("the dispatcher enrolled this worker for another cluster")
    identity = Identity(
        worker_id=enrolled.worker_id,
        cluster_id=enrolled.cluster_id,
        certificate=enrolled.certificate,
        ca_certificate=bundle.certificate,
        key=key,
    )
    check_identity(identity)
    return identity, enrolled.admission


def check_identity(identity: Identity) -> None:
    """Raise BadProof unless the certificate is valid now, of our CA, for our id and our key."""
    public_key = check_worker_certificate(
        identity.certificate,
        identity.ca_certificate,
        identity.cluster_id,
        identity.worker_id,
        datetime.now(UTC),
    )
    if public_key_sha256(public_key) != public_key_sha256(identity.key.public_key()):
        raise BadProof("the certificate is for another key")


async def open_session(address: Address, identity: Identity, boot_id: str, codec: Codec) -> tuple[Connection, Welcome]:
    """Connect, prove who we are, and return once the dispatcher bade welcome: only then are we connected."""
    context = tls.client_context(identity.ca_certificate, identity.certificate, identity.key)
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        connection = await _connect(address, context, dispatcher_server_name(identity.cluster_id), codec)
        try:
            return connection, await _authenticate(connection, identity, boot_id)
        except BaseException:
            connection.writer.transport.abort()
            raise


async def _authenticate(connection: Connection, identity: Identity, boot_id: str) -> Welcome:
    proof = Proof(identity, boot_id, TRANSPORT, LinkPurpose.CONTROL)
    await connection.send(proof.hello)
    challenge = await connection.expect(Challenge)
    await connection.send(proof.answer(challenge, _ssl_object(connection.writer).getpeercert(binary_form=True)))
    return await connection.expect(Welcome)


@asynccontextmanager
async def _connected(
    address: Address, context: ssl.SSLContext, server_name: str | None, codec: Codec
) -> AsyncIterator[Connection]:
    connection = await _connect(address, context, server_name, codec)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect(address: Address, context: ssl.SSLContext, server_name: str | None, codec: Codec) -> Connection:
    reader, writer = await asyncio.open_connection(
        address.host,
        address.port,
        ssl=context,
        server_hostname=server_name or "",
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        limit=READ_BYTES,
    )
    try:
        tls.check_cipher(_ssl_object(writer))
    except BaseException:
        writer.transport.abort()
        raise
    return Connection(address, reader, writer, WorkerSession(codec), deque())


def _ssl_object(writer: asyncio.StreamWriter) -> ssl.SSLObject:
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return found
