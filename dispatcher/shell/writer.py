"""The one thread that talks to the store: commits in groups, answers in order.

Nothing is acknowledged before its commit: whoever submits records gets a future that resolves after
the transaction that holds them. While the store is unavailable the thread keeps trying and everything
waits; `is_healthy` tells the rest of the process.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dispatcher.ports import AttemptKey, Store, StoreRecord, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_GROUP_RECORDS: Final = 2000
"""Records in one transaction; more only makes it longer, not faster."""

RETRY_S: Final = 0.5


T = TypeVar("T")


@dataclass(slots=True)
class _Commit:
    records: Sequence[StoreRecord]
    future: asyncio.Future[frozenset[AttemptKey]]


@dataclass(slots=True)
class _Call:
    function: Callable[[], Any]
    future: asyncio.Future[Any]


class StoreWriter:
    """Serialises all engine access to the store onto one thread."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._inbox: queue.SimpleQueue[_Commit | _Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="octaskly-writer", daemon=True)
        self._stopping = threading.Event()
        self.is_healthy = True

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Finish what was submitted, then end the thread; gives up on a store that stays unavailable."""
        self._stopping.set()
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def submit(self, records: Sequence[StoreRecord]) -> asyncio.Future[frozenset[AttemptKey]]:
        """Commit records with whatever else is waiting; the future gives the refused claims of the group."""
        future: asyncio.Future[frozenset[AttemptKey]] = self._loop.create_future()
        self._inbox.put(_Commit(records, future))
        return future

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a store call on the thread, after everything submitted before it."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Call(function, future))
        return future

    # --- on the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        waiting: _Commit | _Call | None = None
        while True:
            item = waiting or self._inbox.get()
            waiting = None
            if item is None:
                return
            if isinstance(item, _Call):
                self._answer([item.future], item.function)
                continue
            group = [item]
            size = len(item.records)
            while size < MAX_GROUP_RECORDS:
                try:
                    following = self._inbox.get_nowait()
                except queue.Empty:
                    break
                if not isinstance(following, _Commit):
                    waiting = following
                    if following is None:
                        self._inbox.put(None)
                    break
                group.append(following)
                size += len(following.records)
            records = [record for commit in group for record in commit.records]
            self._answer([commit.future for commit in group], functools.partial(self._store.commit, records))

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

        self._loop.call_soon_threadsafe(on_loop)
