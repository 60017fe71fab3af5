"""Calls on a file in threads, under a loop that cancels whoever waits for them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dispatcher.shell.file_lane import FileLane


class SlowFile:
    """A file whose calls wait for a gate and which notes what is done to it, in order."""

    def __init__(self):
        self.gate = threading.Event()
        self.has_begun = threading.Event()
        self.closed = threading.Event()
        self.done = []

    def call(self):
        """Begin, wait, and note the end."""
        self.has_begun.set()
        assert self.gate.wait(10)
        self.done.append("call")

    def close(self):
        """Note it."""
        self.done.append("close")
        self.closed.set()


def play(scene):
    """Run a scene with a pool in which a close would find a thread at once."""

    async def main():
        with ThreadPoolExecutor(4) as pool:
            await asyncio.wait_for(scene(pool, SlowFile()), 20)

    asyncio.run(main())


async def cancelled(task, file):
    """Cancel a task as soon as the file's call has begun, and let the call end only afterwards."""
    await asyncio.to_thread(file.has_begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert file.done == []
    file.gate.set()
    assert await asyncio.to_thread(file.closed.wait, 10)


def test_a_file_is_closed_behind_the_call_that_nobody_waits_for_any_more():
    """Never under it."""

    async def scene(pool, file):
        async def use():
            lane = await FileLane.opened(pool, lambda: file)
            try:
                await lane.start(SlowFile.call)
            finally:
                lane.close().cancel()

        await cancelled(asyncio.create_task(use()), file)
        assert file.done == ["call", "close"]

    play(scene)


def test_a_file_that_opens_for_nobody_is_closed():
    """Whoever wanted it was cancelled meanwhile."""

    async def scene(pool, file):
        def opening():
            file.call()
            return file

        await cancelled(asyncio.create_task(FileLane.opened(pool, opening)), file)
        assert file.done == ["call", "close"]

    play(scene)


def test_closing_waits_until_the_file_is_closed():
    """The next try finds what this one left."""

    async def scene(pool, file):
        file.gate.set()
        lane = await FileLane.opened(pool, lambda: file)
        await lane.start(SlowFile.call)
        await lane.close()
        assert file.done == ["call", "close"]

    play(scene)
