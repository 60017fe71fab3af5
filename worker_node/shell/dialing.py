"""What a worker says on a new connection, whatever carries it: enrol with a join token, or open a session.

Nothing is sent before the peer is proven, with one exception: FetchCa, which carries nothing, asks an
unproven peer for its CA certificate. Only when that has the digest of the join token is it trusted, and only
on a second, verified connection does the token's secret travel.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
from octaskly_wire.messages import CaBundle, Challenge, Enrol, Enrolled, FetchCa, FromWorker, ToWorker, Welcome
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, LinkPurpose, Transport
from worker_node.config import Address
from worker_node.shell.keyfile import Identity
from worker_node.shell.proving import Expected, Proof, expected

if TYPE_CHECKING:  # aioquic, which it stands on, may be missing
    from octaskly_quic.dialing import QuicClient

READ_BYTES: Final = 256 << 10
CLOSE_PATIENCE_S: Final = 1.0


@dataclass(frozen=True)
class Trust:
    """Whom a connection believes, and who we are on it."""

    trusted: tuple[bytes, ...]
    """Certificates (DER) of CAs."""
    server_name: str
    identity: Identity | None = None
    """None while we enrol."""

    @classmethod
    def of(cls, identity: Identity) -> Trust:
        """Return the trust of an enrolled worker."""
        return cls(identity.ca_certificates, dispatcher_server_name(identity.cluster_id), identity)


class Connect(Protocol):
    """Opens a connection; raises OSError, WireError or TimeoutError. Without trust it believes anybody."""

    def __call__(self, address: Address, trust: Trust | None, codec: Codec) -> Awaitable[Connection]:
        """Return a connection on which nothing has been said."""


@dataclass
class Connection:
    """A secured stream with its protocol session and the messages that are in but not looked at yet."""

    address: Address
    transport: Transport
    server_certificate: bytes | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: WorkerSession
    carrier: QuicClient | None = None
    """The QUIC connection that this stream is the first of, and that ends with it."""
    pending: deque[ToWorker] = field(default_factory=deque)

    async def send(self, message: FromWorker) -> None:
        """Send one message, and wait while the peer takes no more."""
        self.writer.write(self.session.encode(message))
        await self.writer.drain()

    async def receive(self) -> ToWorker:
        """Return the next message; raise LinkLost at the end."""
        while not self.pending:
            data = await self.reader.read(READ_BYTES)
            if not data:
                raise LinkLost("the dispatcher closed the connection")
            self.pending.extend(self.session.feed(data))
        return self.pending.popleft()

    async def expect(self, kind: type[Expected]) -> Expected:
        """Return the next message, which must be of this kind; raise DispatcherRefused when it is a refusal."""
        return expected(await self.receive(), kind)

    async def authenticate(self, identity: Identity, boot_id: str, purpose: LinkPurpose) -> Welcome:
        """Prove who we are, and return what the dispatcher bade welcome with: only then are we connected."""
        proof = Proof(identity, boot_id, self.transport, purpose)
        await self.send(proof.hello)
        await self.send(proof.answer(await self.expect(Challenge), self.server_certificate))
        return await self.expect(Welcome)

    async def close(self) -> None:
        """End the connection, without waiting for the peer's good-bye."""
        self.writer.close()
        try:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_PATIENCE_S):
                    await self.writer.wait_closed()
        finally:
            if self.carrier:
                self.carrier.close()

    def abort(self) -> None:
        """End the connection now, whatever is on its way."""
        self.writer.transport.abort()
        if self.carrier:
            self.carrier.abort()


async def enrol(
    connect: Connect, address: Address, token: JoinToken, key: Ed25519PrivateKey, name: str, codec: Codec
) -> tuple[Identity, Admission]:
    """Use a join token; raise BadProof before the secret is sent when the peer is not the token's dispatcher."""
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        async with _connected(connect, address, None, codec) as connection:
            await connection.send(FetchCa())
            bundle = await connection.expect(CaBundle)
        if not secrets.compare_digest(ca_digest(bundle.certificate), token.ca_digest):
            raise BadProof(f"the dispatcher at {address} is not the one that made this join token")
        trust = Trust((bundle.certificate,), dispatcher_server_name(bundle.cluster_id))
        async with _connected(connect, address, trust, codec) as connection:
            request = make_certificate_request(key)
            await connection.send(Enrol(PROTOCOL_VERSION, token.token_id, token.secret, request, name))
            enrolled = await connection.expect(Enrolled)
    if enrolled.cluster_id != bundle.cluster_id:
        raise BadProof("the dispatcher enrolled this worker for another cluster")
    identity = Identity(
        worker_id=enrolled.worker_id,
        cluster_id=enrolled.cluster_id,
        certificate=enrolled.certificate,
        ca_certificates=(bundle.certificate,),
        key=key,
    )
    check_identity(identity)
    return identity, enrolled.admission


def check_identity(identity: Identity) -> None:
    """Raise BadProof unless the certificate is valid now, of a CA that we trust, for our id and our key."""
    public_key = check_worker_certificate(
        identity.certificate,
        identity.ca_certificates,
        identity.cluster_id,
        identity.worker_id,
        datetime.now(UTC),
    )
    if public_key_sha256(public_key) != public_key_sha256(identity.key.public_key()):
        raise BadProof("the certificate is for another key")


async def open_session(
    connect: Connect, address: Address, identity: Identity, boot_id: str, codec: Codec
) -> tuple[Connection, Welcome]:
    """Connect and prove who we are."""
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        connection = await connect(address, Trust.of(identity), codec)
        try:
            return connection, await connection.authenticate(identity, boot_id, LinkPurpose.CONTROL)
        except BaseException:
            connection.abort()
            raise


@asynccontextmanager
async def _connected(
    connect: Connect, address: Address, trust: Trust | None, codec: Codec
) -> AsyncIterator[Connection]:
    connection = await connect(address, trust, codec)
    try:
        yield connection
    finally:
        await connection.close()
