"""A small dispatcher over real TLS or QUIC that speaks the protocol by the book and decides nothing, and a worker beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from octaskly_wire import auth, identity
from octaskly_wire.join_token import JoinToken
from octaskly_wire.messages import (
    AssignAttempt,
    AttemptFinished,
    AttemptStarted,
    Auth,
    CaBundle,
    Challenge,
    Enrol,
    Enrolled,
    FetchCa,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Refused,
    Welcome,
)
from octaskly_wire.session import DispatcherSession
from octaskly_wire.vocabulary import Admission, LinkPurpose, SandboxLevel
from tests.support import transports
from tests.support.file_desk import DeskLink, FileDesk
from worker_node import node
from worker_node.config import Address, WorkerConfig
from worker_node.shell.keyfile import StateFolder

CLUSTER = "cluster-1"
PATIENCE_S = 30.0


class Session:
    """The dispatcher's end of one open link."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: DispatcherSession) -> None:
        self.writer = writer
        self.protocol = protocol
        self.received: asyncio.Queue[object] = asyncio.Queue()
        self.heartbeats: list[Heartbeat] = []
        self.desk_link: DeskLink | None = None
        """Set on a link for transfers."""

    def send(self, *messages) -> None:
        for message in messages:
            self.writer.write(self.protocol.encode(message))

    async def next(self, kind):
        """Return the next message, which must be of this kind; of a start that was told before an end only the end."""
        message = await self.received.get()
        while kind is AttemptFinished and isinstance(message, AttemptStarted):
            message = await self.received.get()
        assert isinstance(message, kind), f"{message} instead of {kind.__name__}"
        return message


class LoopbackDispatcher:
    """Speaks the protocol by the book and decides nothing: the test does."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.ca, self.ca_key = identity.make_ca(CLUSTER, self.now)
        key = identity.new_key()
        certificate = identity.issue_dispatcher_certificate(self.ca, self.ca_key, CLUSTER, key.public_key(), self.now)
        self.credentials = transports.Credentials(self.ca, certificate, key)
        self.transport = transports.current()
        self.token = JoinToken.new(identity.ca_digest(self.ca), secrets.token_bytes)
        self.welcome = Welcome(Admission.APPROVED, heartbeat_interval_s=0.2, lease_s=30.0)
        self.refuse_enrol: Refused | None = None
        self.refuse_auth: Refused | None = None
        self.acknowledges_heartbeats = True
        self.desk = FileDesk()
        self.seen: list[str] = []
        self.sessions: asyncio.Queue[Session] = asyncio.Queue()
        self.address = Address("127.0.0.1", 0)
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[LoopbackDispatcher]:
        serving = await transports.serve(self.credentials, self._accept, port)
        self.address = Address(transports.HOST, serving.port)
        try:
            yield self
        finally:
            for writer in list(self._writers):
                writer.transport.abort()
            await serving.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        protocol = DispatcherSession()
        session = Session(writer, protocol)
        try:
            while data := await reader.read(65536):
                for message in protocol.feed(data):
                    if session.desk_link:
                        await session.desk_link.answer(message)
                        await writer.drain()
                    else:
                        self._answer(session, message)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            session.received.put_nowait(None)
            writer.close()

    def _answer(self, session: Session, message) -> None:
        self.seen.append(type(message).__name__)
        match message:
            case FetchCa():
                session.send(CaBundle(CLUSTER, self.ca))
            case Enrol():
                session.send(self.refuse_enrol or self._enrol(message))
            case Hello():
                self.hello = message
                self.nonce = secrets.token_bytes(32)
                session.send(Challenge(CLUSTER, self.nonce))
            case Auth():
                self._check(message)
                session.send(self.refuse_auth or self.welcome)
                if not self.refuse_auth:
                    session.protocol.open()
                    transports.trust(session.writer)
                    if session.protocol.purpose is LinkPurpose.TRANSFER:
                        session.desk_link = DeskLink(self.desk, session.send, session.writer.close)
                    else:
                        self.sessions.put_nowait(session)
            case Heartbeat():
                session.heartbeats.append(message)
                if self.acknowledges_heartbeats:
                    session.send(HeartbeatAck(message.sequence))
            case _:
                session.received.put_nowait(message)

    def _enrol(self, message: Enrol) -> Enrolled:
        assert message.secret == self.token.secret
        public_key = identity.public_key_of_request(message.certificate_request)
        certificate = identity.issue_worker_certificate(self.ca, self.ca_key, CLUSTER, "worker-1", public_key, self.now)
        return Enrolled("worker-1", CLUSTER, certificate, Admission.PENDING)

    def _check(self, message: Auth) -> None:
        public_key = identity.check_worker_certificate(
            message.certificate, [self.ca], CLUSTER, self.hello.worker_id, self.now
        )
        signed = auth.transcript(
            cluster_id=CLUSTER,
            transport=self.transport,
            server_certificate_der=self.credentials.certificate,
            server_nonce=self.nonce,
            client_nonce=self.hello.nonce,
            worker_id=self.hello.worker_id,
            boot_id=self.hello.boot_id,
        )
        auth.verify(public_key, signed, message.signature)


class Worker:
    """A node in this process, its end awaited by the fixture."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.node: node.Node | None = None

    async def run(self) -> int:
        with contextlib.closing(StateFolder(self.config.state_dir)) as folder:
            return await node.run(self.config, folder, dict(os.environ), on_made=self._keep)

    def _keep(self, made: node.Node) -> None:
        self.node = made


def config_for(dispatcher: LoopbackDispatcher, folder: Path, **changes) -> WorkerConfig:
    """Return the configuration of a worker that knows its dispatcher and has a token."""
    config = WorkerConfig(
        name="worker",
        slots=4,
        state_dir=folder / "state",
        dispatcher_address=dispatcher.address,
        join_token=dispatcher.token,
        transport=dispatcher.transport.value,
        min_sandbox=SandboxLevel.NONE,
        drain_timeout_s=20.0,
    )
    return replace(config, **changes)


def assignment(attempt_id: str, command: str, **changes) -> AssignAttempt:
    """Return an assignment at level basic."""
    fields = {"timeout_s": 60, "sandbox": SandboxLevel.BASIC, "allows_network": False, **changes}
    return AssignAttempt(attempt_id=attempt_id, task_id=attempt_id.split(".", maxsplit=1)[0], command=command, **fields)


def run_scene(scene: Callable[..., Awaitable[None]], folder: Path, **changes) -> int:
    """Run a dispatcher, a worker and a scene between them; return the worker's exit code."""

    async def main() -> int:
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            worker = Worker(config_for(dispatcher, folder, **changes))
            running = asyncio.create_task(worker.run())
            playing = asyncio.create_task(scene(dispatcher, worker))
            await asyncio.wait([running, playing], return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                code = await running
                await playing
                return code
            playing.result()
            return await running

    return asyncio.run(main())
