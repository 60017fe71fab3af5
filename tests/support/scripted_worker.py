"""A dispatcher's listener on loopback, over TCP or QUIC, and a worker that does what a test says, over links for transfers too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from dispatcher.config import ShellConfig
from dispatcher.core.effects import ReadyTask
from dispatcher.ports import Blobs, StoreUnavailable, WhitelistEntry, Wishes
from dispatcher.shell.credentials import Credentials
from dispatcher.shell.handshake import ClusterFacts, Gatekeeper
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.tcp_listener import TcpListener
from dispatcher.shell.transfer import TransferServer
from dispatcher.shell.writer import StoreWriter
from octaskly_wire import auth, identity
from octaskly_wire.codec import Codec
from octaskly_wire.messages import Auth, Challenge, Hello, Register
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, LinkPurpose, Transport
from tests.support import transports
from tests.support.messages import FROM_WORKER
from tests.support.trust import credentials_of, service_with

NOW = datetime.now(UTC)
CLUSTER = "c1"
CA, CA_KEY = identity.make_ca(CLUSTER, NOW)
REGISTER = next(message for message in FROM_WORKER if isinstance(message, Register))
PATIENCE_S = 20.0


class QueueInMemory:
    """The engine's store in memory: a whitelist, a queue, and the records in order."""

    def __init__(self) -> None:
        self.whitelist: dict[str, WhitelistEntry] = {}
        self.tasks: list[ReadyTask] = []
        self.records: list[Any] = []
        self.is_full = False

    def recover(self):
        """Return nothing: this dispatcher is new."""
        return []

    def commit(self, records):
        """Keep the records, unless there is no room."""
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        self.records += records
        return frozenset()

    def fetch_ready(self, classes, limit):
        """Return the queue, each task once."""
        tasks = [task for task in self.tasks if task.task_class in classes][:limit]
        self.tasks = [task for task in self.tasks if task not in tasks]
        return tasks

    def has_news(self):
        """Say that somebody may have changed the whitelist."""
        return True

    def wishes(self):
        """Return the whitelist as it stands."""
        return Wishes([], list(self.whitelist.values()))

    def examine_witnessed(self, worker_id, checkpoint):
        """Find nothing wrong with what a worker has seen of the audit."""
        return ""

    def whitelist_entries(self, worker_ids):
        """Return the workers' entries."""
        return [self.whitelist[worker_id] for worker_id in worker_ids if worker_id in self.whitelist]


class NoBlobs:
    """An empty store of contents, where nobody comes so far as to ask for one."""


class ScriptedLink:
    """The worker's end of one connection."""

    def __init__(self, stream: transports.Stream, session: WorkerSession) -> None:
        self.stream = stream
        self._reader = stream.reader
        self.writer = stream.writer
        self._session = session
        self._received: list[Any] = []

    def send(self, *messages: Any) -> None:
        """Send messages without waiting."""
        for message in messages:
            self.writer.write(self._session.encode(message))

    async def next(self) -> Any:
        """Return the next message, None at the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._received:
                try:
                    data = await self._reader.read(1 << 18)
                except OSError:
                    return None
                if not data:
                    return None
                self._received += self._session.feed(data)
        return self._received.pop(0)

    async def expect(self, kind: Any) -> Any:
        """Return the next message, which is of this kind."""
        message = await self.next()
        assert isinstance(message, kind), f"{message} instead of {kind}"
        return message

    async def until(self, kind: Any) -> Any:
        """Return the next message of this kind, past others."""
        while True:
            message = await self.next()
            assert message is not None, f"the link ended before {kind}"
            if isinstance(message, kind):
                return message

    async def ended(self) -> bool:
        """Wait until the dispatcher ends the connection."""
        while await self.next() is not None:
            pass
        return True


def worker_certificate(worker_id: str, key: Any, ca: bytes = CA, ca_key: Any = CA_KEY, now: datetime = NOW) -> bytes:
    """Issue a worker's certificate."""
    return identity.issue_worker_certificate(ca, ca_key, CLUSTER, worker_id, key.public_key(), now)


class ScriptedWorker:
    """One worker's identity, and the links it opens."""

    def __init__(self, worker_id: str, port: int) -> None:
        self.worker_id = worker_id
        self.key = identity.new_key()
        self.certificate = worker_certificate(worker_id, self.key)
        self._port = port
        self._links: list[ScriptedLink] = []

    def entry(self, admission: Admission = Admission.APPROVED) -> WhitelistEntry:
        """Return what the whitelist says of it."""
        digest = identity.public_key_sha256(self.key.public_key())
        return WhitelistEntry(self.worker_id, digest, admission, is_draining=False)

    async def control(self, boot_id: str = "b1", **changes: Any) -> ScriptedLink:
        """Open a control link and register."""
        link = await self._open(LinkPurpose.CONTROL, boot_id)
        link.send(Register(**{name: getattr(REGISTER, name) for name in REGISTER.__struct_fields__} | changes))
        return link

    async def transfer(self, boot_id: str = "b1") -> ScriptedLink:
        """Open a link for transfers."""
        return await self._open(LinkPurpose.TRANSFER, boot_id)

    async def close(self) -> None:
        """End all links."""
        for link in self._links:
            link.stream.abort()
            with contextlib.suppress(OSError):
                await link.writer.wait_closed()

    async def _open(self, purpose: LinkPurpose, boot_id: str) -> ScriptedLink:
        name = identity.dispatcher_server_name(CLUSTER)
        stream = await transports.dial(self._port, name, CA, self.certificate, self.key)
        link = ScriptedLink(stream, WorkerSession(Codec.MSGPACK, purpose))
        self._links.append(link)
        nonce = b"n" * 32
        link.send(Hello(1, self.worker_id, boot_id, nonce, "test", purpose))
        challenge = await link.expect(Challenge)
        signed = auth.transcript(
            CLUSTER, transports.current(), stream.leaf, challenge.nonce, nonce, self.worker_id, boot_id
        )
        link.send(Auth(self.certificate, auth.sign(self.key, signed)))
        assert type(await link.next()).__name__ == "Welcome"
        return link


class Dispatcher:
    """A running listener with an engine behind it."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.store = QueueInMemory()
        self.port = 0
        self.writer: StoreWriter
        self.gatekeeper: Gatekeeper
        self._workers: list[ScriptedWorker] = []
        self.service: DispatcherService

    def worker(self, worker_id: str = "w1") -> ScriptedWorker:
        """Return an approved worker."""
        worker = ScriptedWorker(worker_id, self.port)
        self.store.whitelist[worker_id] = worker.entry()
        self._workers.append(worker)
        return worker

    def _listener(self, config: ShellConfig, credentials: Credentials, transfers: TransferServer) -> Any:
        if transports.current() is Transport.TCP:
            return TcpListener(config, credentials.tls_context, self.gatekeeper, self.service, transfers=transfers)
        from dispatcher.shell.quic_listener import QuicListener

        return QuicListener(config, credentials.quic_configuration, self.gatekeeper, self.service, transfers=transfers)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Dispatcher]:
        """Listen until left."""
        self.writer = writer = StoreWriter(self.store, asyncio.get_running_loop())
        writer.start()
        self.credentials = credentials = credentials_of(CA, CA_KEY, CLUSTER)
        self.service = service_with(credentials, self.store, writer)
        engine = asyncio.create_task(self.service.run())
        transfers = TransferServer(self.service.transfers, self.blobs)
        self.gatekeeper = Gatekeeper(ClusterFacts(CLUSTER, credentials, 5.0, 30.0), self.store, writer)
        listener = self._listener(ShellConfig(CLUSTER, transports.HOST, 0, 0), credentials, transfers)
        self.port = await listener.start()
        try:
            yield self
        finally:
            for worker in self._workers:
                await worker.close()
            self.service.close_links()
            await listener.stop()
            await transfers.stop()
            engine.cancel()
            await asyncio.gather(engine, return_exceptions=True)
            await writer.stop()
