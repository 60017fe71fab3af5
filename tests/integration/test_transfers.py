"""Links for transfers over loopback TLS and QUIC: what a worker may fetch and store, resumed, refused, and cut off.

Long because it is a list: one small scene after the other between the same dispatcher and the same worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
from hashlib import sha256

import pytest

from dispatcher.shell import transfer as transfer_module
from dispatcher.shell.link import MAX_UNSENT_BYTES
from dispatcher.shell.transfer_roster import MAX_LINKS_OF_A_WORKER
from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import (
    AssignAttempt,
    AttemptFinished,
    BlobChunk,
    BlobStored,
    FetchBlob,
    Heartbeat,
    HeartbeatAck,
    InputFile,
    OutcomeReport,
    Refused,
    SendBlob,
    StoreBlob,
    TransferRefused,
    Vitals,
)
from octaskly_wire.vocabulary import Admission, RefusalCode, SandboxLevel, Transport
from tasks_app.blob_store import MEGABYTE, BlobStore
from tests.support.scripted_worker import Dispatcher
from tests.support.transports import ONLY_TCP
from tests.unit.dispatcher.engine import make_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("transport")]

CONTENT = os.urandom(3 * MEGABYTE + 5)
SIZE = len(CONTENT)
DIGEST = sha256(CONTENT).hexdigest()
SECRET = b"the input of another attempt"
SECRET_DIGEST = sha256(SECRET).hexdigest()
VITALS = Vitals(cpu_percent=0, memory_total_bytes=1, memory_available_bytes=1, disk_free_bytes=1, load_1m=0)


def keep(blobs, content):
    """Store a content, as an upload does."""
    incoming = blobs.receive("", len(content), "somebody")
    incoming.write(content)
    digest = incoming.finish()
    incoming.close()
    return digest


@pytest.fixture
def play(tmp_path):
    """Return a function that plays a scene between a dispatcher and a worker that was given an attempt, t1.1."""

    def play(scene, run=asyncio.run, **limits):
        blobs = BlobStore(tmp_path / "blobs", **({"max_bytes": 64 * MEGABYTE, "reserve_bytes": 0} | limits))
        keep(blobs, CONTENT)
        keep(blobs, SECRET)

        async def main():
            dispatcher = Dispatcher(blobs)
            dispatcher.store.tasks = [make_task("t1", inputs=(InputFile("in", DIGEST, SIZE),), outputs=("*",))]
            async with asyncio.timeout(40), dispatcher.running():
                worker = dispatcher.worker()
                control = await worker.control()
                await control.until(AssignAttempt)
                await scene(dispatcher, worker, control)

        run(main())
        return blobs

    return play


async def fetch(link, offset=0, digest=DIGEST, attempt_id="t1.1", size=SIZE):
    """Fetch a content from an offset on; return what came, or the refusal."""
    link.send(FetchBlob(attempt_id, digest, offset))
    received = bytearray()
    while offset + len(received) < size:
        message = await link.expect((BlobChunk, TransferRefused))
        if isinstance(message, TransferRefused):
            return message
        assert message.offset == offset + len(received)
        assert len(message.data) <= MAX_CHUNK_BYTES
        received += message.data
    return bytes(received)


async def store(link, content, digest=None, size=None, attempt_id="t1.1"):
    """Store a content; return the offset that was asked for and the last answer."""
    digest = digest or sha256(content).hexdigest()
    link.send(StoreBlob(attempt_id, digest, len(content) if size is None else size))
    answer = await link.expect((SendBlob, TransferRefused))
    if isinstance(answer, TransferRefused):
        return None, answer
    for start in range(answer.offset, len(content), MAX_CHUNK_BYTES):
        link.send(BlobChunk(start, content[start : start + MAX_CHUNK_BYTES]))
        await link.writer.drain()
    return answer.offset, await link.expect((BlobStored, TransferRefused))


def test_an_assignment_tells_its_files_and_they_can_be_fetched(play):
    """Whole, in order, and from any offset on; several over one link."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        assert await fetch(link) == CONTENT
        assert await fetch(link, 1_000_001) == CONTENT[1_000_001:]
        assert await fetch(link, SIZE) == b""
        assert await fetch(link, SIZE - 1) == CONTENT[-1:]

    play(scene)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"digest": SECRET_DIGEST}, "is no input of the attempt t1.1"),
        ({"digest": "0" * 64}, "is no input of the attempt t1.1"),
        ({"attempt_id": "t1.2"}, "the attempt t1.2 is not live on this worker"),
        ({"attempt_id": "nonsense"}, "the attempt nonsense is not live on this worker"),
        ({"offset": SIZE + 1, "size": SIZE + 2}, f"ends at {SIZE}"),
    ],
    ids=["another's content", "unknown content", "another attempt", "no attempt", "beyond the end"],
)
def test_a_fetch_of_anything_else_is_refused_for_good(play, asked, words):
    """And the link goes on."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        refusal = await fetch(link, **asked)
        assert words in refusal.detail
        assert refusal.is_final
        assert await fetch(link) == CONTENT

    play(scene)


def test_another_worker_may_neither_fetch_nor_store_for_it(play):
    """The attempt is live, but not on that worker."""

    async def scene(dispatcher, worker, control):
        other = dispatcher.worker("w2")
        await other.control()
        link = await other.transfer()
        assert "is not live on this worker" in (await fetch(link)).detail
        offset, refusal = await store(link, b"forged")
        assert offset is None
        assert "is not live on this worker" in refusal.detail
        assert refusal.is_final

    assert not play(scene).has(sha256(b"forged").hexdigest())


def test_after_the_outcome_nothing_more_may_be_fetched_or_stored(play):
    """The attempt is over for its own worker too."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        control.send(AttemptFinished("t1.1", OutcomeReport(None, 0, 1, SandboxLevel.BASIC, "test")))
        while dispatcher.service.transfers.objection_to_store("w1", "t1.1") is None:
            await asyncio.sleep(0.01)
        assert isinstance(await fetch(link), TransferRefused)
        assert isinstance((await store(link, b"late"))[1], TransferRefused)

    play(scene)


def test_a_content_that_vanished_from_the_disk_is_refused_for_good(play):
    """The worker is told, and can say so in its outcome."""

    async def scene(dispatcher, worker, control):
        dispatcher.blobs.unlink(DIGEST)
        refusal = await fetch(await worker.transfer())
        assert (refusal.detail, refusal.is_final) == (f"the content {DIGEST} is not stored here any more", True)

    play(scene)


@pytest.mark.parametrize("size", [0, 1, MAX_CHUNK_BYTES, 2 * MEGABYTE + 3])
def test_an_output_is_stored_and_verified(play, size):
    """BlobStored comes when row and file are there."""
    content = os.urandom(size)

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        offset, answer = await store(link, content)
        assert (offset, answer) == (0, BlobStored(sha256(content).hexdigest()))
        assert await asyncio.to_thread(dispatcher.blobs.has, answer.sha256)

    with play(scene).open(sha256(content).hexdigest()) as file:
        assert file.read() == content


def test_a_cut_off_store_goes_on_where_it_was(play):
    """After the cut only the rest is asked for."""
    content = os.urandom(3 * MEGABYTE)
    digest = sha256(content).hexdigest()

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        link.send(StoreBlob("t1.1", digest, len(content)))
        assert await link.expect(SendBlob) == SendBlob(0)
        for start in range(0, 2 * MEGABYTE, MAX_CHUNK_BYTES):
            link.send(BlobChunk(start, content[start : start + MAX_CHUNK_BYTES]))
        await link.writer.drain()
        [partial] = (dispatcher.blobs.folder / "incoming").iterdir()
        while partial.stat().st_size < MEGABYTE:
            await asyncio.sleep(0.01)
        link.writer.transport.abort()
        offset, answer = await store(await worker.transfer(), content)
        assert MEGABYTE <= offset <= 2 * MEGABYTE
        assert answer == BlobStored(digest)

    assert play(scene).has(digest)


def test_a_content_that_is_there_is_not_sent_again(play):
    """The answer asks for nothing and says that it is stored."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        assert await store(link, CONTENT) == (SIZE, BlobStored(DIGEST))

    play(scene)


def test_a_lie_about_the_digest_is_refused_and_nothing_is_kept(play):
    """The next try begins afresh, and may succeed."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        offset, refusal = await store(link, b"x" * MEGABYTE, digest="ab" * 32)
        assert offset == 0
        assert "not " + "ab" * 32 in refusal.detail
        assert not refusal.is_final
        assert list((dispatcher.blobs.folder / "incoming").iterdir()) == []
        assert (await store(link, b"honest"))[1] == BlobStored(sha256(b"honest").hexdigest())

    assert not play(scene).has("ab" * 32)


def test_a_content_above_the_cap_is_refused_before_it_is_sent(play):
    """With words that name the cap."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        offset, refusal = await store(link, b"", digest="ab" * 32, size=64 * MEGABYTE + 1)
        assert (offset, refusal.is_final) == (None, True)
        assert "more than the 64 MB a file may have" in refusal.detail

    play(scene)


def test_a_content_without_room_is_refused_for_now(play):
    """Later there may be room, so the refusal is not final."""

    async def scene(dispatcher, worker, control):
        dispatcher.blobs._reserve_bytes = 1 << 60
        link = await worker.transfer()
        offset, refusal = await store(link, b"output")
        assert (offset, refusal.is_final) == (None, False)
        assert "has no room" in refusal.detail
        dispatcher.blobs._reserve_bytes = 0
        assert isinstance((await store(link, b"output"))[1], BlobStored)

    play(scene)


def test_a_refusal_amid_a_content_leaves_the_link_in_order(play):
    """The rest that was on its way is passed over; the next request is answered."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        content = os.urandom(4 * MEGABYTE)
        link.send(StoreBlob("t1.1", sha256(content).hexdigest(), len(content)))
        await link.expect(SendBlob)
        link.send(BlobChunk(0, content[:MAX_CHUNK_BYTES]))
        control.send(AttemptFinished("t1.1", OutcomeReport(None, 0, 1, SandboxLevel.BASIC, "test")))
        while dispatcher.service.transfers.objection_to_store("w1", "t1.1") is None:
            await asyncio.sleep(0.01)
        for start in range(MAX_CHUNK_BYTES, len(content), MAX_CHUNK_BYTES):
            link.send(BlobChunk(start, content[start : start + MAX_CHUNK_BYTES]))
        assert "is not live" in (await link.expect(TransferRefused)).detail
        assert isinstance(await fetch(link), TransferRefused)

    play(scene)


@pytest.mark.parametrize(
    "chunks",
    [
        [BlobChunk(1, b"x")],
        [BlobChunk(0, b"x"), BlobChunk(0, b"x")],
        [BlobChunk(0, b"x" * 11)],
        [FetchBlob("t1.1", DIGEST)],
    ],
    ids=["gap", "overlap", "too much", "another request"],
)
def test_chunks_out_of_order_end_the_link(play, chunks):
    """And nothing of it is stored."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        link.send(StoreBlob("t1.1", "ab" * 32, 10))
        await link.expect(SendBlob)
        link.send(*chunks)
        assert await link.ended()

    assert not play(scene).has("ab" * 32)


def test_a_chunk_that_nobody_asked_for_ends_the_link(play):
    """Contents come behind a request only."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        link.send(BlobChunk(0, b"x"))
        assert await link.ended()

    play(scene)


@pytest.mark.parametrize("admission", [Admission.REVOKED, Admission.SUSPENDED])
def test_revoking_ends_a_transfer_amid_its_content(play, admission):
    """Within a second nothing more goes to that worker, and it gets no new link."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        link.send(FetchBlob("t1.1", DIGEST))
        await link.expect(BlobChunk)
        idle = await worker.transfer()
        began = asyncio.get_running_loop().time()
        dispatcher.store.whitelist["w1"] = worker.entry(admission)
        dispatcher.service.on_worker_changed()
        assert await link.ended()
        assert await idle.ended()
        assert asyncio.get_running_loop().time() - began < 1
        if admission is Admission.SUSPENDED:
            refusal = await (await worker.transfer()).expect(Refused)
            assert refusal.detail == "the worker is suspended"

    play(scene)


def test_no_link_for_transfers_without_the_control_link(play):
    """It ends with the control link, and another start of the worker gets none under the old one."""

    async def scene(dispatcher, worker, control):
        refusal = await (await worker.transfer(boot_id="b2")).expect(Refused)
        assert (refusal.code, refusal.is_final) == (RefusalCode.UNAVAILABLE, False)
        assert refusal.detail == "the control link is of another start of the worker"
        link = await worker.transfer()
        assert await fetch(link, SIZE - 1) == CONTENT[-1:]
        control.writer.transport.abort()
        assert await link.ended()
        refusal = await (await worker.transfer()).expect(Refused)
        assert refusal.detail == "the worker has no control link"

    play(scene)


def test_a_new_control_link_ends_the_transfers_of_the_one_before(play):
    """What a silently cut link left half done is free for the worker to go on with."""

    async def scene(dispatcher, worker, control):
        link = await worker.transfer()
        assert await fetch(link, SIZE - 1) == CONTENT[-1:]
        again = await worker.control()
        assert await link.ended()
        assert await control.ended()
        again.send(Heartbeat(1, VITALS, []))
        await again.until(HeartbeatAck)

    play(scene)


def test_a_link_for_transfers_leaves_the_control_link_alone(play):
    """Neither its coming nor its going is an event for the engine."""

    async def scene(dispatcher, worker, control):
        links = [await worker.transfer() for _ in range(MAX_LINKS_OF_A_WORKER)]
        refusal = await (await worker.transfer()).expect(Refused)
        assert refusal.detail == f"the worker has {MAX_LINKS_OF_A_WORKER} links for transfers already"
        links[0].writer.close()
        while len(dispatcher.service.transfers._links["w1"]) == MAX_LINKS_OF_A_WORKER:
            await asyncio.sleep(0.01)
        assert await fetch(await worker.transfer(), SIZE - 1) == CONTENT[-1:]
        control.send(Heartbeat(1, VITALS, ["t1.1"]))
        assert (await control.expect(HeartbeatAck)).sequence == 1
        kinds = [type(record).__name__ for record in dispatcher.store.records]
        assert kinds.count("WorkerConnected") == 1
        assert "WorkerDisconnected" not in kinds

    play(scene)


@ONLY_TCP
@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system cannot bound it")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_little_stands_unsent_in_the_kernel_of_a_control_link(play, loop):
    """On either loop; links for transfers keep the usual buffer."""
    run = pytest.importorskip(loop).run

    async def scene(dispatcher, worker, control):
        await worker.transfer()
        transports = [dispatcher.service._links["w1"], *dispatcher.service.transfers._links["w1"]]
        unsent = [
            link._writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            for link in transports
        ]
        assert unsent[0] == MAX_UNSENT_BYTES
        assert MAX_UNSENT_BYTES not in unsent[1:]

    play(scene, run=run)


@pytest.mark.parametrize("way", ["nothing asked", "nothing sent", "nothing read"])
def test_a_link_on_which_nothing_moves_is_closed(play, monkeypatch, way):
    """Between requests, and amid a content in either direction."""
    monkeypatch.setattr(transfer_module, "IDLE_S", 0.2)

    async def scene(dispatcher, worker, control):
        big = os.urandom(32 * MEGABYTE)
        digest = await asyncio.to_thread(keep, dispatcher.blobs, big)
        attempt = dispatcher.service._reactor.state.attempts["t1"]
        attempt.task = make_task("t1", inputs=(InputFile("big", digest, len(big)),))
        link = await worker.transfer()
        if way == "nothing sent":
            link.send(StoreBlob("t1.1", "ab" * 32, 10))
            await link.expect(SendBlob)
            assert await link.next() is None, "no refusal either: the worker may go on over another link"
        elif way == "nothing read":
            link.send(FetchBlob("t1.1", digest))
        while dispatcher.service.transfers._links:
            await asyncio.sleep(0.05)
        assert await link.ended()

    play(scene)


def test_heartbeats_are_answered_while_contents_go_both_ways(play, transport):
    """Three busy links do not hold up the loop, on which with QUIC the cryptography of both ends runs."""
    megabytes, times, patience_s = (16, 5, 0.5) if transport is Transport.TCP else (2, 1, 2.0)

    async def scene(dispatcher, worker, control):
        async def bring():
            offset, answer = await store(await worker.transfer(), os.urandom(megabytes * MEGABYTE))
            assert (offset, type(answer)) == (0, BlobStored)

        async def take():
            link = await worker.transfer()
            for _ in range(times):
                assert len(await fetch(link)) == SIZE

        loop = asyncio.get_running_loop()
        busy = asyncio.gather(bring(), bring(), take())
        waits = []
        while not busy.done():
            began = loop.time()
            control.send(Heartbeat(len(waits), VITALS, ["t1.1"]))
            await control.until(HeartbeatAck)
            waits.append(loop.time() - began)
            await asyncio.sleep(0.01)
        await busy
        assert len(waits) > 3
        assert max(waits) < patience_s

    play(scene)
