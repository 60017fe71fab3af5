"""The one thread that talks to the store: commits in groups, answers in order.

Nothing is acknowledged before its commit: whoever submits records gets a future that resolves after
the transaction that holds them. While the store is unavailable the thread keeps trying and everything
waits; `is_healthy` tells the rest of the process.

A commit costs the same whatever it holds. So what comes while one is under way gathers on the loop and goes into
the next, and where much is to be committed commits keep a distance, so that more gathers.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dispatcher.core.commit_spacing import CommitSpacing
from dispatcher.ports import AttemptKey, Store, StoreRecord, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_GROUP_RECORDS: Final = 2000
"""Records in one transaction; more only makes it longer, not faster."""

PATIENCE_S: Final = 0.02
"""How long records that nobody waits for may wait for others to be committed with."""

RETRY_S: Final = 0.5


T = TypeVar("T")


@dataclass(slots=True)
class _Commit:
    records: Sequence[StoreRecord]
    future: asyncio.Future[frozenset[AttemptKey]]
    is_urgent: bool


@dataclass(slots=True)
class _Call:
    function: Callable[[], Any]
    future: asyncio.Future[Any]


class StoreWriter:
    """Serialises all engine access to the store onto one thread. Everything is called on the loop."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._waiting: deque[_Commit | _Call] = deque()
        self._is_urgent = False
        """Whether anybody waits for what is waiting."""
        self._waits_since = 0.0
        """When the first of it came, by the loop's clock."""
        self._waiting_calls = 0
        self._is_busy = False
        """Whether the thread has something in hand."""
        self._timer: asyncio.Handle | None = None
        """When what is waiting goes to the thread."""
        self._spacing = CommitSpacing()
        self._inbox: queue.SimpleQueue[list[_Commit] | _Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="octaskly-writer", daemon=True)
        self._stopping = threading.Event()
        self.is_healthy = True

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Finish what was submitted, then end the thread; gives up on a store that stays unavailable."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            self._inbox.put(self._take_next())
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def submit(
        self, records: Sequence[StoreRecord], *, is_urgent: bool = True
    ) -> asyncio.Future[frozenset[AttemptKey]]:
        """Commit records with whatever else is waiting; the future gives the refused claims of the group.

        What is not urgent waits for others for PATIENCE_S at most.
        """
        future: asyncio.Future[frozenset[AttemptKey]] = self._loop.create_future()
        self._enter(_Commit(records, future, is_urgent), is_urgent=is_urgent)
        return future

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a store call on the thread, after everything submitted before it."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting_calls += 1
        self._enter(_Call(function, future), is_urgent=True)
        return future

    def _enter(self, item: _Commit | _Call, *, is_urgent: bool) -> None:
        if not self._waiting:
            self._waits_since = self._loop.time()
        self._waiting.append(item)
        is_news = is_urgent and not self._is_urgent
        self._is_urgent |= is_urgent
        if self._timer is None or is_news or isinstance(item, _Call):
            self._plan()

    def _plan(self) -> None:
        """Settle when what is waiting goes to the thread: not before the loop has gone through what it has in hand."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_busy or not self._waiting:
            return
        # Whoever reads does not wait for more to gather before it.
        due_at = 0.0 if self._waiting_calls else self._spacing.next_at
        if not self._is_urgent:
            due_at = max(due_at, self._waits_since + PATIENCE_S)
        if due_at > self._loop.time():
            self._timer = self._loop.call_at(due_at, self._hand_over)
        else:
            self._timer = self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        self._is_busy = True
        taken = self._take_next()
        if not isinstance(taken, _Call):
            self._spacing.note(sum(len(commit.records) for commit in taken), self._loop.time())
        self._inbox.put(taken)

    def _take_next(self) -> list[_Commit] | _Call:
        """Take out a call, or all commits that stand before one."""
        first = self._waiting.popleft()
        if isinstance(first, _Call):
            self._waiting_calls -= 1
            taken: list[_Commit] | _Call = first
        else:
            taken, size = [first], len(first.records)
            while self._waiting and size < MAX_GROUP_RECORDS and isinstance(following := self._waiting[0], _Commit):
                taken.append(following)
                size += len(following.records)
                self._waiting.popleft()
        self._is_urgent = any(isinstance(item, _Call) or item.is_urgent for item in self._waiting)
        return taken

    # --- on the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._inbox.get()) is not None:
            if isinstance(item, _Call):
                self._answer([item.future], item.function)
            else:
                records = [record for commit in item for record in commit.records]
                self._answer([commit.future for commit in item], functools.partial(self._store.commit, records))

    def _answer(self, futures: Sequence[asyncio.Future[Any]], function: Callable[[], Any]) -> None:
        while True:
            try:
                result = function()
            except StoreUnavailable as error:
                if self.is_healthy:
                    # The message says it all, and it is the disk's fault: no traceback.
                    logger.error(  # noqa: TRY400
                        "The database cannot be written, waiting for it: %s",
                        error,
                        extra={"event": "database_unavailable", "detail": str(error)},
                    )
                self.is_healthy = False
                if self._stopping.wait(RETRY_S):
                    self._resolve(futures, None, error)
                    return
            except Exception as error:
                logger.exception("The store failed", extra={"event": "database_failed"})
                self._resolve(futures, None, error)
                return
            else:
                if not self.is_healthy:
                    logger.warning("The database can be written again", extra={"event": "database_available"})
                self.is_healthy = True
                self._resolve(futures, result, None)
                return

    def _resolve(self, futures: Sequence[asyncio.Future[Any]], result: object, error: Exception | None) -> None:
        def on_loop() -> None:
            for future in futures:
                if future.cancelled():
                    continue
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            self._is_busy = False
            self._plan()

        self._loop.call_soon_threadsafe(on_loop)
