"""A link tells at once what may not wait, and hears what comes, also what came before it ran."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

from octaskly_wire.codec import Codec
from octaskly_wire.messages import AcknowledgeOutcome, AttemptRejected, AttemptStarted, Drain, DrainStarted, Resume
from octaskly_wire.session import DispatcherSession, Phase, WorkerSession
from octaskly_wire.vocabulary import RejectionReason, Transport
from worker_node.config import Address
from worker_node.shell.dialing import Connection
from worker_node.shell.incoming import GONE
from worker_node.shell.link import Link

PATIENCE_S = 10.0
UNENCODABLE = AttemptRejected("t.1", RejectionReason.WORKSPACE_FAILED, "\udcff")


class Field:
    """A link on a pair of sockets, of which the test has the other one."""

    def __init__(self, connection: Connection, peer: socket.socket) -> None:
        self.leisure_s = 0.0
        self.heard: asyncio.Queue[object] = asyncio.Queue()
        self.link = Link(connection, self._hear, lambda: self.leisure_s)
        self.peer = peer
        self._session = DispatcherSession()
        self._session.phase = Phase.OPEN

    def _hear(self, messages: Iterable[object]) -> None:
        for message in messages:
            self.heard.put_nowait(message)

    def say(self, *messages) -> None:
        """Say something to the worker."""
        self.peer.sendall(b"".join(map(self._session.encode, messages)))

    def told(self) -> list[object]:
        """Return what is here of the worker's words."""
        try:
            return self._session.feed(self.peer.recv(65536))
        except BlockingIOError:
            return []

    async def all_told(self, count: int) -> list[object]:
        """Return so many words of the worker."""
        messages: list[object] = []
        while len(messages) < count:
            messages += self.told()
            await asyncio.sleep(0)
        return messages


def run(story: Callable[[Field], Awaitable[None]]) -> None:
    """Tell a story on a loop."""

    async def tell() -> None:
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        session = WorkerSession(Codec.MSGPACK)
        session.phase = Phase.OPEN
        connection = Connection(Address("peer", 1), Transport.TCP, None, reader, writer, session)
        with peer:
            async with asyncio.timeout(PATIENCE_S):
                await story(Field(connection, peer))
            await connection.close()

    asyncio.run(tell())


def test_what_may_not_wait_is_told_in_the_same_turn():
    """Nobody else gets to run in between; what follows at once keeps its place."""

    async def story(field: Field) -> None:
        running = asyncio.create_task(field.link.run())
        field.link.send(DrainStarted())
        assert field.told() == [DrainStarted()]
        field.link.send(AttemptStarted("t.1"))
        field.link.send(AttemptStarted("t.2"))
        assert await field.all_told(2) == [AttemptStarted("t.1"), AttemptStarted("t.2")]
        field.link.close("over")
        assert await running == "over"

    run(story)


def test_what_may_wait_is_told_together():
    """One write carries it all, in order."""

    async def story(field: Field) -> None:
        field.leisure_s = 0.001
        words = [AttemptStarted(f"t.{number}") for number in range(300)]
        running = asyncio.create_task(field.link.run())
        for word in words:
            field.link.send(word)
        assert field.told() == []
        assert await field.all_told(len(words)) == words
        await field.link.flush()
        field.link.close("over")
        await running

    run(story)


def test_what_came_early_is_heard_first_and_the_end_is_told():
    """Nothing is lost between the stream reader and the link."""

    async def story(field: Field) -> None:
        field.say(Drain(), AcknowledgeOutcome("t.1"))
        await asyncio.sleep(0)
        running = asyncio.create_task(field.link.run())
        field.say(AcknowledgeOutcome("t.2"), Resume())
        heard = [await field.heard.get() for _ in range(4)]
        assert heard == [Drain(), AcknowledgeOutcome("t.1"), AcknowledgeOutcome("t.2"), Resume()]
        field.peer.shutdown(socket.SHUT_WR)
        assert await running == GONE

    run(story)


def test_what_cannot_be_encoded_ends_the_link_and_harms_nobody_else():
    """Whoever sends it goes on; a new link follows, whose inventory says the rest."""

    async def story(field: Field) -> None:
        running = asyncio.create_task(field.link.run())
        field.link.send(UNENCODABLE)
        assert "surrogates" in await running

    run(story)


def test_an_end_that_came_before_the_link_ran_is_told():
    """Nobody tells it again, and a worker that waited for it would be deaf."""

    async def story(field: Field) -> None:
        field.peer.close()
        while not field.link._connection.reader.at_eof():
            await asyncio.sleep(0)
        assert await field.link.run() == GONE

    run(story)
