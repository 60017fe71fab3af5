"""When the engine looks for wishes: at once when told, soon when somebody else wrote, and never for nothing."""

from __future__ import annotations

import asyncio

from dispatcher.ports import Wishes
from dispatcher.shell.wishes_watch import WishesWatch
from dispatcher.shell.writer import StoreWriter


class CountingStore:
    """A store that says when there is news, and counts the questions."""

    def __init__(self) -> None:
        self.news = False
        self.asked = 0
        self.looked = 0

    def has_news(self):
        """Say it once."""
        self.asked += 1
        said, self.news = self.news, False
        return said

    def wishes(self):
        """Count a look."""
        self.looked += 1
        return Wishes([], [])


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
