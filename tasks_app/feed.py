"""Wakes whoever waits for tasks to change, or for anything, as soon as this process has committed a change.

A hint and no more: what another process writes is not told here, so whoever waits looks again by itself, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress


class Watch:
    """Waits for one of some tasks to change, or for anything."""

    def __init__(self) -> None:
        self._is_told = asyncio.Event()

    @property
    def is_told(self) -> bool:
        """Return whether a change was told that nobody has looked at yet; may be asked from any thread."""
        return self._is_told.is_set()

    def tell(self) -> None:
        """Hear of a change; call on the loop."""
        self._is_told.set()

    async def told(self) -> None:
        """Return as soon as there is a change that `changed` will return."""
        await self._is_told.wait()

    async def changed(self, timeout_s: float) -> None:
        """Return at the first change since the last call, or after the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._is_told.wait()
        self.forget()

    def forget(self) -> None:
        """Count what was told so far as seen; call right before looking."""
        self._is_told.clear()


class Feed:
    """Who watches which tasks. Watching belongs to one loop; telling may come from any thread."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}
        self._watches_of_ends: dict[str, set[Watch]] = {}
        self._watches_of_all: frozenset[Watch] = frozenset()
        """Replaced, never changed, since tellers on other threads walk it."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, task_ids: Iterable[str] = (), ended: Iterable[str] = ()) -> None:
        """Say that these tasks have changed, or without tasks that something else has. `ended` are those that may have.

        Call after the commit. Costs nothing while nobody watches.
        """
        loop = self._loop
        if loop is None:
            return
        told = tuple(task_ids) if self._watches else ()
        told_ended = tuple(ended) if self._watches_of_ends else ()
        # Who watches everything and was told already looks after this commit anyway.
        if told or told_ended or not all(watch.is_told for watch in self._watches_of_all):
            # A loop that has ended has nobody left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake, told, told_ended)

    @contextmanager
    def watch(self, task_ids: Iterable[str], *, only_ends: bool = False) -> Iterator[Watch]:
        """Watch these tasks, or their ends alone; begin before the first look at them."""
        self._loop = asyncio.get_running_loop()
        watch = Watch()
        watched = set(task_ids)
        all_watches = self._watches_of_ends if only_ends else self._watches
        for task_id in watched:
            all_watches.setdefault(task_id, set()).add(watch)
        try:
            yield watch
        finally:
            for task_id in watched:
                watches = all_watches[task_id]
                watches.discard(watch)
                if not watches:
                    del all_watches[task_id]

    @contextmanager
    def watch_all(self) -> Iterator[Watch]:
        """Watch whatever is told; begin before the first look."""
        self._loop = asyncio.get_running_loop()
        watch = Watch()
        self._watches_of_all |= {watch}
        try:
            yield watch
        finally:
            self._watches_of_all -= {watch}

    def _wake(self, task_ids: Sequence[str], ended: Sequence[str]) -> None:
        for watch in self._watches_of_all:
            watch.tell()
        for watches, told in ((self._watches, task_ids), (self._watches_of_ends, ended)):
            for task_id in told:
                for watch in watches.get(task_id, ()):
                    watch.tell()


feed = Feed()
"""The one of this process."""
