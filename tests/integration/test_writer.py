"""The writer thread: groups, order, and waiting for a store that is not there."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dispatcher.core import commit_spacing
from dispatcher.core.effects import AttemptKey, ClaimTask
from dispatcher.ports import StoreUnavailable
from dispatcher.shell import writer as writer_module
from dispatcher.shell.writer import StoreWriter


class GatedStore:
    """A store whose first commit waits, so that others gather behind it."""

    def __init__(self):
        self.gate = threading.Event()
        self.groups = []
        self.failures = 0

    def commit(self, records):
        """Note the group; fail as often as told."""
        self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("disk full")
        self.groups.append(list(records))
        return frozenset(record.key for record in records if record.worker_id == "refused")


def claim(number, worker_id="w"):
    """Return a record."""
    return ClaimTask(AttemptKey("t", number), worker_id)


def run(scenario):
    """Run a scenario with a started writer."""

    async def main():
        store = GatedStore()
        writer = StoreWriter(store, asyncio.get_running_loop())
        writer.start()
        try:
            async with asyncio.timeout(20):
                await scenario(store, writer)
        finally:
            store.gate.set()
            await writer.stop()

    asyncio.run(main())


def test_waiting_records_share_a_transaction():
    """What gathers while one commit runs goes out in the next as one group, in order."""

    async def scenario(store, writer):
        futures = [writer.submit([claim(number)]) for number in range(20)]
        store.gate.set()
        await asyncio.gather(*futures)
        assert [record.key.number for group in store.groups for record in group] == list(range(20))
        assert len(store.groups) <= 2

    run(scenario)


def test_what_is_not_urgent_goes_with_the_next_that_is(monkeypatch):
    """It waits for company, in its place; with none it is committed all the same."""
    monkeypatch.setattr(writer_module, "PATIENCE_S", 60.0)

    async def scenario(store, writer):
        store.gate.set()
        patient = writer.submit([claim(1)], is_urgent=False)
        await writer.submit([claim(2)])
        assert patient.done()
        assert [record.key.number for record in store.groups[0]] == [1, 2]
        monkeypatch.setattr(writer_module, "PATIENCE_S", 0.001)
        await writer.submit([claim(3)], is_urgent=False)
        monkeypatch.setattr(writer_module, "PATIENCE_S", 60.0)
        last = writer.submit([claim(4)], is_urgent=False)
        await writer.stop()
        await last

    run(scenario)


def test_what_is_not_urgent_waits_during_a_commit_too(monkeypatch):
    """Its patience counts from when it came: after a long commit it goes at once."""
    monkeypatch.setattr(writer_module, "PATIENCE_S", 10.0)

    async def scenario(store, writer):
        loop = asyncio.get_running_loop()
        first = writer.submit([claim(1)])
        await asyncio.sleep(0)
        patient = writer.submit([claim(2)], is_urgent=False)
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 10.0)
        store.gate.set()
        await asyncio.gather(first, patient)
        assert [len(group) for group in store.groups] == [1, 1]

    run(scenario)


def test_under_load_what_comes_gathers(monkeypatch):
    """After a commit with much in it the next waits for more, but not longer than whoever reads."""
    monkeypatch.setattr(commit_spacing, "MAX_SPACING_S", 60.0)

    async def scenario(store, writer):
        store.gate.set()
        await writer.submit([claim(number) for number in range(400)])
        gathering = [writer.submit([claim(number)]) for number in (401, 402)]
        await asyncio.sleep(0)
        gathering.append(writer.submit([claim(403)]))
        await writer.call(lambda: None)
        await asyncio.gather(*gathering)
        assert [len(group) for group in store.groups] == [400, 3]

    run(scenario)


def test_call_sees_everything_before_it():
    """A read is answered after the commits submitted before it and before those after it."""

    async def scenario(store, writer):
        first = writer.submit([claim(1)])
        seen = writer.call(lambda: len(store.groups))
        second = writer.submit([claim(2)])
        store.gate.set()
        await asyncio.gather(first, second)
        assert await seen == 1

    run(scenario)


def test_refused_claims_are_told():
    """The future of a group carries the claims that were not granted."""

    async def scenario(store, writer):
        store.gate.set()
        assert await writer.submit([claim(1, "refused"), claim(2)]) == {AttemptKey("t", 1)}

    run(scenario)


def test_unavailable_store_is_waited_for(monkeypatch):
    """Nothing is lost while the disk is full: health goes down, the group is written later, health returns."""
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)

    async def scenario(store, writer):
        store.failures = 3
        store.gate.set()
        await writer.submit([claim(1)])
        assert len(store.groups) == 1
        assert writer.is_healthy

    run(scenario)


def test_store_that_fails_for_good_fails_the_caller():
    """An error that no retry mends reaches whoever waits, instead of hanging."""

    async def scenario(store, writer):
        def broken():
            raise ValueError("no such table")

        with pytest.raises(ValueError, match="no such table"):
            await writer.call(broken)

    run(scenario)
