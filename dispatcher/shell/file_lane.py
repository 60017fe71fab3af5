"""Runs the calls on one open file in a pool of threads, never two at once, and closes it whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be let go."""

    def close(self) -> None:
        """Let go."""


F = TypeVar("F", bound=Closable)
R = TypeVar("R")


class FileLane(Generic[F]):
    """One file and the last call on it.

    Who waits for a call may be cancelled, its thread goes on all the same. So the file is closed behind the last call,
    not when the waiting ends.
    """

    def __init__(self, pool: ThreadPoolExecutor, file: F, opening: Future[F]) -> None:
        self._pool = pool
        self.file = file
        self._last: Future[Any] = opening

    @classmethod
    async def opened(cls, pool: ThreadPoolExecutor, opening: Callable[[], F]) -> FileLane[F]:
        """Open a file in the pool and return its lane; raises what the opening raises."""
        work = pool.submit(opening)
        try:
            return cls(pool, await asyncio.wrap_future(work), work)
        except asyncio.CancelledError:
            work.add_done_callback(_close_result)
            raise

    def start(self, function: Callable[[F], R]) -> asyncio.Future[R]:
        """Begin a call on the file; the one before must have been awaited."""
        work = self._pool.submit(function, self.file)
        self._last = work
        return asyncio.wrap_future(work)

    def close(self) -> asyncio.Future[None]:
        """Close the file as soon as no call is on it any more, whether or not somebody waits for that."""
        closed: Future[None] = Future()
        closed.set_running_or_notify_cancel()

        def close_file() -> None:
            try:
                self.file.close()
            finally:
                closed.set_result(None)

        self._last.add_done_callback(lambda _: self._pool.submit(close_file))
        return asyncio.wrap_future(closed)


def _close_result(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
