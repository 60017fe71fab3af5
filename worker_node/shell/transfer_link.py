"""One connection for files, used from a thread: the blocking twin of `tcp_dialer`.

Blocking on purpose. Reading from TLS, hashing and writing files let go of the interpreter, so a thread that does
nothing else moves hundreds of megabytes a second while the loop, with its heartbeats, is never held up. What uses a
link needs `send` and `receive` only, so that another transport can stand in.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from octaskly_wire import tls
from octaskly_wire.codec import Codec
from octaskly_wire.errors import LinkLost
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S, MAX_CHUNK_BYTES
from octaskly_wire.messages import Challenge, FromWorker, ToWorker, Welcome
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import LinkPurpose, Transport
from worker_node.config import Address
from worker_node.shell.dialing import Trust
from worker_node.shell.keyfile import Identity
from worker_node.shell.proving import Proof, expected
from worker_node.shell.stoppable import Stop
from worker_node.shell.tcp_dialer import client_context

if TYPE_CHECKING:
    from octaskly_quic.dialing import QuicClient

SILENCE_S: Final = 30.0
"""After which a peer that owes us bytes, or room for ours, is taken for dead."""


@dataclass(frozen=True)
class Streams:
    """A QUIC connection, on which streams can be opened, and the loop that drives it."""

    carrier: QuicClient
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True)
class Endpoint:
    """Where transfer links lead, and who opens them."""

    address: Address
    identity: Identity
    boot_id: str
    codec: Codec
    streams: Streams | None = None
    """Set where links are streams beside the control link's; else each is a TCP connection of its own."""


class TransferLink(Protocol):
    """What moves files over a connection. Each call raises OSError or WireError when the connection is lost."""

    def send(self, message: FromWorker) -> None:
        """Send a message."""

    def receive(self, patience_s: float = SILENCE_S) -> ToWorker:
        """Return the next message."""

    def abort(self) -> None:
        """Make another thread's `send` or `receive` end now."""

    def close(self) -> None:
        """End the connection."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be received, not even an end."""


class TcpTransferLink:
    """A transfer link over TLS on TCP."""

    def __init__(self, connection: ssl.SSLSocket, session: WorkerSession) -> None:
        """Take a connection whose peer is proven."""
        self._connection = connection
        self._session = session
        self._pending: deque[ToWorker] = deque()

    def send(self, message: FromWorker) -> None:
        """Send a message."""
        self._connection.sendall(self._session.encode(message))

    def receive(self, patience_s: float = SILENCE_S) -> ToWorker:
        """Return the next message."""
        self._connection.settimeout(patience_s)
        while not self._pending:
            data = self._connection.recv(MAX_CHUNK_BYTES)
            if not data:
                raise LinkLost("the dispatcher closed the transfer link")
            self._pending.extend(self._session.feed(data))
        self._connection.settimeout(SILENCE_S)
        return self._pending.popleft()

    def abort(self) -> None:
        """Make another thread's `send` or `receive` end now."""
        _abort(self._connection)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be received, not even an end."""
        if self._pending or self._connection.pending():
            return False
        return not select.select([self._connection], [], [], 0)[0]


def open_tcp_link(endpoint: Endpoint, stop: Stop) -> TcpTransferLink:
    """Connect and prove who we are; raise OSError, WireError or DispatcherRefused. A stop ends it with one of them."""
    identity = endpoint.identity
    trust = Trust.of(identity)
    context = client_context(trust)
    plain = socket.create_connection((endpoint.address.host, endpoint.address.port), HANDSHAKE_TIMEOUT_S)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_hostname=trust.server_name, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        stop.wake_by(partial(_abort, connection))
        connection.do_handshake()
        tls.check_cipher(connection)
        link = TcpTransferLink(connection, WorkerSession(endpoint.codec, LinkPurpose.TRANSFER))
        proof = Proof(identity, endpoint.boot_id, Transport.TCP, LinkPurpose.TRANSFER)
        link.send(proof.hello)
        challenge = expected(link.receive(HANDSHAKE_TIMEOUT_S), Challenge)
        link.send(proof.answer(challenge, connection.getpeercert(binary_form=True)))
        expected(link.receive(HANDSHAKE_TIMEOUT_S), Welcome)
    except BaseException:
        stop.wake_by(None)
        connection.close()
        raise
    return link


def _abort(connection: ssl.SSLSocket) -> None:
    with suppress(OSError):
        # Not the method of the TLS socket, which takes away what the other thread is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
