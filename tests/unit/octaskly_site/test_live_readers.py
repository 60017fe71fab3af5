"""Live requests are counted, and end when the dispatcher stops."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from octaskly_site.live.readers import MAX_READERS, MAX_READERS_OF_TASK, MAX_WAITERS, Readers, Stopping, TooMany


def test_a_task_has_so_many_readers():
    """One more is refused until one of them is gone; other tasks have places of their own."""

    async def story() -> None:
        readers = Readers()
        with ExitStack() as others, readers.reading("a"):
            for _ in range(MAX_READERS_OF_TASK - 1):
                others.enter_context(readers.reading("a"))
            with pytest.raises(TooMany, match="follow this task"), readers.reading("a"):
                pass
            with readers.reading("b"):
                pass
            others.pop_all().close()
            with readers.reading("a"):
                pass
        assert not readers._of_task

    asyncio.run(story())


def test_all_tasks_together_have_so_many():
    """However they are spread."""

    async def story() -> None:
        readers = Readers()
        with ExitStack() as others:
            for number in range(MAX_READERS):
                others.enter_context(readers.reading(f"task {number}"))
            with pytest.raises(TooMany, match="follow output"), readers.reading("one more"):
                pass

    asyncio.run(story())


def test_so_many_wait():
    """Waiting has a bound of its own."""

    async def story() -> None:
        readers = Readers()
        with ExitStack() as others:
            for _ in range(MAX_WAITERS):
                others.enter_context(readers.waiting())
            with pytest.raises(TooMany, match="wait already"), readers.waiting():
                pass
        with readers.waiting():
            pass

    asyncio.run(story())


def test_closing_ends_all_at_once():
    """Those that read hear why, and those that come afterwards too."""

    async def story() -> None:
        readers = Readers()
        is_reading = asyncio.Event()

        async def read() -> str:
            try:
                with readers.reading("a"):
                    is_reading.set()
                    await asyncio.Event().wait()
            except Stopping:
                return "stopped"
            return "went on"

        reading = asyncio.ensure_future(read())
        await is_reading.wait()
        await readers.close()
        assert reading.done()
        assert reading.result() == "stopped"
        assert await read() == "stopped"

    asyncio.run(story())


def test_a_reader_that_leaves_is_not_told_to_stop():
    """Its own end stays what it is."""

    async def story() -> None:
        readers = Readers()

        async def read() -> None:
            with readers.reading("a"):
                await asyncio.Event().wait()

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(story())
