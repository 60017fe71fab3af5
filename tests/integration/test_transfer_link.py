"""Transfer links by themselves: proven like any link, used again while warm, and ended at once by whoever wishes so."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from functools import partial

import pytest

from octaskly_wire.errors import LinkLost
from octaskly_wire.messages import OutputFile
from tests.support.loopback import PATIENCE_S, LoopbackDispatcher, config_for
from tests.support.transports import FALSE_SERVER, ONLY_TCP
from worker_node.config import Address
from worker_node.shell import transfers as transfers_module
from worker_node.shell.joiner import Joiner
from worker_node.shell.keyfile import StateFolder
from worker_node.shell.stoppable import on_thread
from worker_node.shell.transfer_link import Endpoint
from worker_node.shell.transfers import Transfers

pytestmark = pytest.mark.usefixtures("transport")

SOON_S = 3.0


def play(folder, scene) -> None:
    """Run a scene with a dispatcher, transfer links and where they lead."""

    async def main() -> None:
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            with closing(StateFolder(folder / "state")) as state:
                joiner = Joiner(config_for(dispatcher, folder), state, "boot-1")
                connection, _ = await joiner.join()
                transfers = Transfers()
                endpoint = joiner.endpoint(connection)
                transfers.use(endpoint)
                try:
                    await scene(dispatcher, transfers, endpoint)
                finally:
                    transfers.close()
                    await connection.close()

    asyncio.run(main())


async def fetch(transfers: Transfers, file) -> bytes:
    """Fetch a content on a thread."""
    pieces: list[bytes] = []

    def work(stop) -> None:
        transfers.fetch("t1.1", file, 0, pieces.append, stop)

    await on_thread(work, transfers.pool)
    return b"".join(pieces)


def test_a_warm_link_serves_the_next_request(tmp_path, monkeypatch):
    """One handshake for all of them; after a while without one the link is not used any more."""

    async def scene(dispatcher, transfers, _):
        before = dispatcher.seen.count("Hello")
        for number in range(5):
            assert await fetch(transfers, dispatcher.desk.put("a", b"%d" % number)) == b"%d" % number
        assert dispatcher.seen.count("Hello") == before + 1
        monkeypatch.setattr(transfers_module, "IDLE_S", 0.0)
        assert await fetch(transfers, dispatcher.desk.put("a", b"x")) == b"x"
        assert dispatcher.seen.count("Hello") == before + 2

    play(tmp_path, scene)


def test_a_link_that_the_dispatcher_closed_is_not_used_again(tmp_path):
    """The next request gets a new one and does not notice."""

    async def scene(dispatcher, transfers, endpoint):
        file = dispatcher.desk.put("a", b"x" * (1 << 20))
        dispatcher.desk.cuts_at = [1 << 19]
        with pytest.raises((LinkLost, OSError)):
            await fetch(transfers, file)
        assert await fetch(transfers, file) == b"x" * (1 << 20)
        transfers.use(None)
        with pytest.raises(LinkLost, match="no link to the dispatcher"):
            await fetch(transfers, file)
        transfers.use(endpoint)
        assert await fetch(transfers, file) == b"x" * (1 << 20)

    play(tmp_path, scene)


def test_a_content_goes_there_from_where_the_dispatcher_has_it(tmp_path):
    """What it has is not sent twice, and a content that it has whole costs a word."""

    async def scene(dispatcher, transfers, _):
        data = b"0123456789" * 100_000
        file = dispatcher.desk.put("a", data)
        (tmp_path / "content").write_bytes(data)
        output = OutputFile(file.name, file.sha256, file.size_bytes)
        dispatcher.desk.arrived[file.sha256] = bytearray(data[:777_777])
        for _ in range(2):
            with (tmp_path / "content").open("rb") as content:
                store = partial(transfers.store, "t1.1", output, content)
                await on_thread(store, transfers.store_pool)
        assert dispatcher.desk.arrived[file.sha256] == data

    play(tmp_path, scene)


@ONLY_TCP  # Over QUIC it is a stream beside the control link's.
def test_a_false_dispatcher_gets_nothing(tmp_path):
    """A certificate of another CA ends it before a word is said."""

    async def scene(dispatcher, transfers, endpoint):
        false = LoopbackDispatcher()
        async with false.listening():
            transfers.use(Endpoint(false.address, endpoint.identity, endpoint.boot_id, endpoint.codec))
            with pytest.raises(FALSE_SERVER):
                await fetch(transfers, dispatcher.desk.put("a", b"x"))
            assert false.seen == []

    play(tmp_path, scene)


async def cancelled_soon(fetching: asyncio.Task[bytes]) -> bool:
    """Cancel a fetch, and return whether that ended it."""
    fetching.cancel()
    async with asyncio.timeout(SOON_S):
        await asyncio.wait([fetching])
    return fetching.cancelled()


@ONLY_TCP
def test_a_cancel_does_not_wait_for_a_handshake(tmp_path):
    """A machine that takes the connection and says nothing holds nobody up."""

    async def scene(dispatcher, transfers, endpoint):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = Address(*silent.getsockname())
            transfers.use(Endpoint(address, endpoint.identity, endpoint.boot_id, endpoint.codec))
            fetching = asyncio.create_task(fetch(transfers, dispatcher.desk.put("a", b"x")))
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                assert await cancelled_soon(fetching)

    play(tmp_path, scene)


def test_a_cancel_does_not_wait_for_an_answer(tmp_path):
    """Nor does a dispatcher that heard the request and is slow."""

    async def scene(dispatcher, transfers, _):
        dispatcher.desk.may_answer.clear()
        fetching = asyncio.create_task(fetch(transfers, dispatcher.desk.put("a", b"x")))
        while not dispatcher.desk.requests:
            await asyncio.sleep(0.001)
        assert await cancelled_soon(fetching)

    play(tmp_path, scene)
