"""Work on a thread that the loop can end: a cancelled task ends its thread's work before it goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


class Stopped(Exception):
    """The work was told to end."""


class Stop:
    """Tells the work of one thread to end."""

    def __init__(self) -> None:
        """Begin with no wish to end."""
        self._lock = threading.Lock()
        self._is_set = False
        self._at_once: Callable[[], None] | None = None

    def check(self) -> None:
        """Raise Stopped when the work shall end; to be called between small pieces of it."""
        if self._is_set:
            raise Stopped

    def set(self) -> None:
        """Ask for the end."""
        with self._lock:
            self._is_set = True
            if self._at_once is not None:
                self._at_once()

    def wake_by(self, at_once: Callable[[], None] | None) -> None:
        """Take what ends the wait that the work is about to begin; None when it waits no more."""
        with self._lock:
            self._at_once = at_once
            if self._is_set and at_once is not None:
                at_once()


async def on_thread(work: Callable[[Stop], Result], executor: Executor) -> Result:
    """Return what the work returns. Cancelled, this is over only when the work is: nobody touches its files then."""
    stop = Stop()
    future = executor.submit(work, stop)
    waiter = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiter)
    except asyncio.CancelledError:
        stop.set()
        if not future.cancel():
            await asyncio.wait([waiter])
            if not waiter.cancelled():
                waiter.exception()  # what it was stopped with is nobody's business any more
        raise
