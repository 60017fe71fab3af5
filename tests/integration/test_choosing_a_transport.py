"""A worker that may use either transport, at dispatchers that offer QUIC, do not, or have an impostor on that port."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.errors import LinkLost
from octaskly_wire.messages import FetchBlob
from octaskly_wire.vocabulary import Transport
from tests.support import transports
from tests.support.loopback import PATIENCE_S, LoopbackDispatcher, config_for
from worker_node.config import Address
from worker_node.shell import dialer, quic_dialer
from worker_node.shell.joiner import Joiner
from worker_node.shell.keyfile import StateFolder
from worker_node.shell.quic_transfer_link import QuicTransferLink, open_quic_link
from worker_node.shell.stoppable import on_thread


@dataclass
class Transfer:
    """A link that is used from a thread, and what runs the loop that drives it."""

    runner: asyncio.Runner
    link: QuicTransferLink
    pool: ThreadPoolExecutor


@asynccontextmanager
async def over(transport: Transport, dispatcher: LoopbackDispatcher, port: int = 0) -> AsyncIterator[None]:
    """Let a dispatcher listen on one transport."""
    before, transports._current = transports._current, transport
    try:
        dispatcher.transport = transport
        async with dispatcher.listening(port):
            yield
    finally:
        transports._current = before


async def joined_over(dispatcher: LoopbackDispatcher, folder: Path) -> Transport:
    """Join as a worker that may use either; return what carries the session."""
    with closing(StateFolder(folder / "state")) as state:
        joiner = Joiner(config_for(dispatcher, folder, transport="auto"), state, "boot-1")
        connection, _ = await joiner.join()
        await connection.close()
        return connection.transport


def test_quic_comes_first(tmp_path):
    """A dispatcher that offers it is joined, and talked to, over QUIC; nobody needs to listen on TCP."""

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), over(Transport.QUIC, dispatcher):
            assert await joined_over(dispatcher, tmp_path) is Transport.QUIC

    asyncio.run(main())


@pytest.mark.parametrize("is_silent", [False, True], ids=["closed", "silent"])
def test_where_quic_is_not_tcp_serves(tmp_path, monkeypatch, caplog, is_silent):
    """A port that is closed costs nothing, one that is silent a short wait; either is one line in the log."""
    monkeypatch.setattr(dialer, "QUIC_TRY_S", 0.2 if is_silent else 20.0)

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(10), over(Transport.TCP, dispatcher):
            with socket.socket(type=socket.SOCK_DGRAM) as silent:
                if is_silent:
                    silent.bind((dispatcher.address.host, dispatcher.address.port))
                assert await joined_over(dispatcher, tmp_path) is Transport.TCP
        assert [getattr(record, "event", "") for record in caplog.records].count("quic_failed") == 1

    asyncio.run(main())


def test_an_impostor_on_the_udp_port_hears_nothing_and_hinders_nobody(tmp_path):
    """Neither a worker that joins nor one that is known; the true dispatcher is reached over TCP."""

    async def main():
        true, false = LoopbackDispatcher(), LoopbackDispatcher()
        async with (
            asyncio.timeout(PATIENCE_S),
            over(Transport.TCP, true),
            over(Transport.QUIC, false, true.address.port),
        ):
            for _ in range(2):
                assert await joined_over(true, tmp_path) is Transport.TCP
        # What carries nothing, before anything is known of who listens.
        assert false.seen == ["FetchCa"]

    asyncio.run(main())


def test_an_address_that_leads_nowhere_is_a_failure_that_may_pass():
    """A laptop without a network goes on trying."""

    async def main():
        with pytest.raises(OSError):
            await quic_dialer.connect(Address("fe80::1", 5555), None, Codec.MSGPACK)

    asyncio.run(main())


@pytest.fixture
def transfer(tmp_path) -> Iterator[Transfer]:
    """A transfer link on a stream beside the control link's, at a dispatcher that keeps its answers back."""
    ends = AsyncExitStack()

    async def begin() -> Transfer:
        dispatcher = LoopbackDispatcher()
        await ends.enter_async_context(over(Transport.QUIC, dispatcher))
        dispatcher.desk.may_answer.clear()
        folder = ends.enter_context(closing(StateFolder(tmp_path / "state")))
        joiner = Joiner(config_for(dispatcher, tmp_path), folder, "boot-1")
        connection, _ = await joiner.join()
        ends.push_async_callback(connection.close)
        endpoint = joiner.endpoint(connection)
        assert endpoint.streams
        pool = ends.enter_context(ThreadPoolExecutor(1))
        link = await on_thread(partial(open_quic_link, endpoint, endpoint.streams), pool)
        link.send(FetchBlob("t1.1", dispatcher.desk.put("a", b"x").sha256, 0))
        return Transfer(runner, link, pool)

    with asyncio.Runner() as runner:
        yield runner.run(begin())
        runner.run(ends.aclose())


def test_an_abort_wakes_a_thread_that_waits(transfer: Transfer):
    """At once, whatever the dispatcher does."""

    async def scene() -> float:
        waiting = transfer.pool.submit(transfer.link.receive, 600.0)
        await asyncio.sleep(0)
        began = time.monotonic()
        transfer.link.abort()
        with pytest.raises(LinkLost):
            await asyncio.wrap_future(waiting)
        return time.monotonic() - began

    assert transfer.runner.run(scene()) < 0.5


def test_a_thread_does_not_wait_for_a_loop_that_has_stopped(transfer: Transfer):
    """A worker that ends leaves nobody behind, though nothing wakes the thread any more."""
    with pytest.raises(LinkLost):
        transfer.pool.submit(transfer.link.receive, 600.0).result(5)
