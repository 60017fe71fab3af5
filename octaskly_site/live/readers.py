"""Who reads live now: bounds on how many, and an end for all when the dispatcher stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

K = TypeVar("K", str, int)

MAX_READERS: Final = 512
MAX_READERS_OF_TASK: Final = 64
MAX_WAITERS: Final = 512
MAX_WATCHERS: Final = 512
MAX_WATCHERS_OF_USER: Final = 64


class TooMany(Exception):
    """As many read or wait already as may. The text says which bound it is."""


class Stopping(Exception):
    """The dispatcher stops."""


class Readers:
    """Counts the live requests."""

    def __init__(self) -> None:
        self._of_task: Counter[str] = Counter()
        self._of_user: Counter[int] = Counter()
        self._waiters = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    @contextmanager
    def reading(self, task_id: str) -> Iterator[None]:
        """Count the current task as a reader of a task's output; raises TooMany or Stopping."""
        if self._of_task.total() >= MAX_READERS:
            raise TooMany(f"{MAX_READERS} readers follow output already")
        if self._of_task[task_id] >= MAX_READERS_OF_TASK:
            raise TooMany(f"{MAX_READERS_OF_TASK} readers follow this task already")
        with _counted(self._of_task, task_id), self._in_hand():
            yield

    @contextmanager
    def watching(self, user_id: int) -> Iterator[None]:
        """Count the current task as one that watches live events; raises TooMany or Stopping."""
        if self._of_user.total() >= MAX_WATCHERS:
            raise TooMany(f"{MAX_WATCHERS} connections watch live events already")
        if self._of_user[user_id] >= MAX_WATCHERS_OF_USER:
            raise TooMany(f"{MAX_WATCHERS_OF_USER} connections of this user watch live events already")
        with _counted(self._of_user, user_id), self._in_hand():
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the current task as one that waits for tasks to end; raises TooMany or Stopping."""
        if self._waiters >= MAX_WAITERS:
            raise TooMany(f"{MAX_WAITERS} requests wait already")
        self._waiters += 1
        try:
            with self._in_hand():
                yield
        finally:
            self._waiters -= 1

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        if self._is_closing:
            raise Stopping
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
            task.uncancel()
            raise Stopping from None
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """End all now: what they read goes on, and can be read from the next start."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


@contextmanager
def _counted(counter: Counter[K], key: K) -> Iterator[None]:
    """Count one more of this key, and leave nothing of it behind."""
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]
