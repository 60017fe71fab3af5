"""What a dispatcher holds in memory has bounds: half-sent outputs on a link, outcomes that wait for their commit."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from dispatcher.core.effects import AttemptKey, RecordOutcome
from dispatcher.shell import link as link_module
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.service import MAX_WAITING_BYTES
from dispatcher.shell.writer import StoreWriter
from octaskly_wire import identity
from octaskly_wire.codec import Codec, encode
from octaskly_wire.errors import MalformedMessage
from octaskly_wire.framing import encode_frame
from octaskly_wire.messages import (
    AttemptFinished,
    AttemptStarted,
    CapturedOutput,
    OutcomeReport,
    OutputChunk,
    Register,
)
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.messages import FROM_WORKER
from tests.support.trust import credentials_of, service_with

MEGABYTE = 1 << 20
REGISTER = next(message for message in FROM_WORKER if isinstance(message, Register))


class NoSocket:
    """What a link needs of a connection to read from it only."""

    transport = None

    def get_extra_info(self, name):
        """Return nothing."""


async def received(*messages):
    """Return a link that has taken these messages, or raise what it raises."""
    reader = asyncio.StreamReader(limit=1 << 24)
    for message in (REGISTER, *messages, AttemptStarted("end.1")):
        reader.feed_data(encode_frame(Codec.MSGPACK, encode(message, Codec.MSGPACK)))
    link = WorkerLink(reader, NoSocket(), "tcp")
    link.session.open()
    assert await link.receive() == REGISTER
    assert await anext(link.messages()) == AttemptStarted("end.1")
    return link


def chunk(attempt_id, size, offset=0):
    """Return a piece of stdout."""
    return OutputChunk(attempt_id, "stdout", offset, b"x" * size)


def report(kept_bytes):
    """Return a report that announces so much output, sent in chunks."""
    stdout = CapturedOutput(total_bytes=kept_bytes, kept_bytes=kept_bytes, data=None)
    return OutcomeReport(None, 0, 1, SandboxLevel.BASIC, "test", stdout=stdout)


def test_chunks_become_the_output_of_their_attempt():
    """In order, both streams, also when they are sent a second time from the start."""

    async def main():
        pieces = [chunk("t1.1", 1000), chunk("t1.1", 500, 1000)]
        link = await received(*pieces, *pieces)
        assert link.take_outputs(AttemptFinished("t1.1", report(1500))) == (b"x" * 1500, b"")

    asyncio.run(main())


@pytest.mark.parametrize(
    "messages",
    [
        [chunk("t1.1", 10), chunk("t2.1", 10)],
        [chunk("t1.1", 10), chunk("t1.1", 10, 11)],
        [chunk("t1.1", 10), chunk("t1.1", 10, 9)],
        [chunk("t1.1", 200_000, offset) for offset in range(0, 2 * MEGABYTE, 200_000)],
    ],
    ids=["amid another's", "gap", "overlap", "too much"],
)
def test_output_that_does_not_fit_ends_the_link(messages):
    """A worker cannot fill the dispatcher's memory with beginnings, nor with more than may be kept."""
    with pytest.raises(MalformedMessage):
        asyncio.run(received(*messages))


def test_a_link_that_is_not_read_is_given_up(monkeypatch):
    """Messages to a worker that reads none of them are bounded."""
    monkeypatch.setattr(link_module, "MAX_OUTBOX_MESSAGES", 5)

    async def main():
        link = WorkerLink(asyncio.StreamReader(), NoSocket(), "tcp")
        for number in range(9):
            link.send(AttemptStarted(f"t{number}.1"))
        assert (link._is_closing, len(link._outgoing)) == (True, 0)

    asyncio.run(main())


class StuckStore:
    """A store whose commits wait for a gate."""

    def __init__(self):
        self.gate = threading.Event()

    def commit(self, records):
        """Wait."""
        self.gate.wait(10)
        return frozenset()


def test_outcomes_that_wait_for_their_commit_are_bounded_by_their_bytes():
    """Links are not read while too much output waits, and are again once it is on disk."""

    async def main():
        store = StuckStore()
        loop = asyncio.get_running_loop()
        writer = StoreWriter(store, loop)
        writer.start()
        service = service_with(credentials_of(*identity.make_ca("c1", datetime.now(UTC)), "c1"), store, writer)
        carrying = asyncio.create_task(service._carry_out())
        output = b"x" * MEGABYTE
        for number in range(MAX_WAITING_BYTES // MEGABYTE):
            assert service._has_room.is_set()
            service._perform([RecordOutcome(AttemptKey("t", number), "w", report(0), output, b"", None)])
        assert not service._has_room.is_set()
        store.gate.set()
        async with asyncio.timeout(10):
            await service.settle()
        assert service._has_room.is_set()
        assert service._waiting_bytes == 0
        carrying.cancel()
        await writer.stop()

    asyncio.run(main())
