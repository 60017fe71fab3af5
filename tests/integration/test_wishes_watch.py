"""When the engine looks for wishes: at once when told, soon when somebody else wrote, and never for nothing."""

from __future__ import annotations

import asyncio

from dispatcher.ports import WhitelistEntry, Wishes
from dispatcher.shell.wishes_watch import WishesWatch
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.vocabulary import Admission


class CountingStore:
    """A store that says when there is news, and counts the questions."""

    def __init__(self) -> None:
        self.news = False
        self.asked = 0
        self.looked = 0
        self.asked_for = []

    def has_news(self):
        """Say it once."""
        self.asked += 1
        said, self.news = self.news, False
        return said

    def wishes(self):
        """Count a look."""
        self.looked += 1
        return Wishes([], [])

    def whitelist_entries(self, worker_ids):
        """Know every worker."""
        self.asked_for.append(sorted(worker_ids))
        return [entry_of(worker_id) for worker_id in worker_ids]


def entry_of(worker_id):
    """Return what the whitelist says of a worker."""
    return WhitelistEntry(worker_id, "key", Admission.APPROVED, is_draining=False)


def test_a_look_follows_news_or_a_word_and_nothing_else():
    """A quiet store is asked the cheap question only."""

    async def main():
        store = CountingStore()
        writer = StoreWriter(store, asyncio.get_running_loop())
        writer.start()
        acted = asyncio.Event()

        async def act(wishes):
            assert wishes == Wishes([], [])
            acted.set()

        async def asked(times):
            while store.asked < times:
                await asyncio.sleep(0.01)

        watch = WishesWatch(store, writer, act)
        running = asyncio.create_task(watch.run())
        async with asyncio.timeout(10):
            await asked(2)
            assert store.looked == 0
            store.news = True
            await acted.wait()
            assert store.looked == 1
            acted.clear()
            questions = store.asked
            watch.look_now()
            await acted.wait()
            assert (store.looked, store.asked) == (2, questions)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await writer.stop()

    asyncio.run(main())


def test_workers_that_come_are_looked_at_together_and_put_no_look_off():
    """However many come and however often, each look at them reads only theirs, and news of others is noticed as soon."""

    async def main():
        store = CountingStore()
        writer = StoreWriter(store, asyncio.get_running_loop())
        writer.start()
        told = []

        async def act(wishes):
            told.extend(entry.worker_id for entry in wishes.whitelist)

        watch = WishesWatch(store, writer, act)
        watch.look_at("w1")
        watch.look_at("w2")
        running = asyncio.create_task(watch.run())
        async with asyncio.timeout(10):
            while len(told) < 2:
                await asyncio.sleep(0)
            assert (store.asked_for, store.looked, store.asked) == ([["w1", "w2"]], 0, 0)
            store.news = True
            while not store.looked:
                watch.look_at("w3")
                await asyncio.sleep(0.001)
        assert set(told) == {"w1", "w2", "w3"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await writer.stop()

    asyncio.run(main())
