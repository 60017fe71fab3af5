"""concurrent.futures over a cluster: commands go in, futures of their outcomes come out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from concurrent import futures
from functools import partial
from typing import Any, Final, TypeAlias, Unpack

from octaskly.answers import Task
from octaskly.async_client import AsyncClient
from octaskly.errors import Invalid, OctasklyError, TooLarge
from octaskly.outcomes import Outcome
from octaskly.specs import TaskOptions, task_spec
from octaskly.templates import filled, with_field
from octaskly.watch import Unwatched, Watch

MAX_AT_ONCE: Final = 16
"""Uploads under way."""
MAX_LIST: Final = 500
GATHER_S: Final = 0.01
"""How long cancellations are gathered: they come one by one."""
Asked: TypeAlias = tuple[futures.Future[Outcome], dict[str, Any]]


class Executor(futures.Executor):
    """Runs commands on the cluster. Takes the arguments of Client, and one thread of this process.

    A future stays pending until its task has ended, so that it can be cancelled even while its command runs.
    """

    def __init__(self, url: str | None = None, token: str | None = None, **options: Any) -> None:
        self._make_client = partial(AsyncClient, url, token, **options)
        self._open: set[futures.Future[Outcome]] = set()
        self._watched: dict[str, futures.Future[Outcome]] = {}
        self._is_shut_down = False
        self._lock = threading.Lock()
        self._ready: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._run, name="octaskly-executor", daemon=True)
        self._thread.start()
        self._ready.result()

    def submit(self, command: str, /, **options: Unpack[TaskOptions]) -> futures.Future[Outcome]:  # type: ignore[override]
        """Submit a command with the options of Client.submit; return the future of its outcome."""
        future: futures.Future[Outcome] = futures.Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot submit after shutdown")
            self._open.add(future)
        future.add_done_callback(self._forget)
        self._loop.call_soon_threadsafe(self._start, self._submit(future, command, options))
        return future

    def map(self, template: str, *lists: Iterable[object], **options: Unpack[TaskOptions]) -> Iterator[Outcome]:  # type: ignore[override]
        """Run the command for each value, or each tuple of several lists' values; yield outcomes in that order.

        The template has GNU Parallel's replacement strings: `{}`, `{.}`, `{/}`, `{1}`, `{#}` and so on. A `timeout`
        is each task's.
        """
        command = with_field(template)
        started = [
            self.submit(filled(command, [str(value) for value in values], number), **options)
            for number, values in enumerate(zip(*lists, strict=False), 1)
        ]
        return _in_order(started)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's
        """Take nothing more. Without `wait` this returns at once, and what was submitted goes on."""
        with self._lock:
            is_first, self._is_shut_down = not self._is_shut_down, True
            unfinished = list(self._open)
        if cancel_futures:
            for future in unfinished:
                future.cancel()
        if is_first:
            self._loop.call_soon_threadsafe(self._leave.set)
        if wait:
            self._thread.join()

    # On the executor's own thread

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - raised by whoever makes the executor
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self._something_ended = asyncio.Event()
        self._waiting: deque[Asked] = deque()
        self._to_cancel: list[str] = []
        self._sending = asyncio.Lock()
        self._client = self._make_client()
        async with self._client, Watch(self._client) as self._watch:
            listening = asyncio.create_task(self._listen())
            self._ready.set_result(None)
            await self._leave.wait()
            while self._under_way or self._watched:
                self._something_ended.clear()
                await self._something_ended.wait()
            listening.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._something_ended.set()

    async def _submit(self, future: futures.Future[Outcome], command: str, options: TaskOptions) -> None:
        """Upload the inputs, and put the task into the next list."""
        try:
            async with self._room:
                if future.cancelled():
                    return
                sent = await self._client.uploaded(options.get("inputs", ()))
            spec = task_spec(command, options, [one.reference for one in sent])
        except Exception as error:  # noqa: BLE001 - it is the future's
            self._fail(future, error)
            return
        self._waiting.append((future, spec))
        if len(self._waiting) == 1:
            self._start(self._send())

    async def _send(self) -> None:
        """Submit what waits, a list at a time: while one is on its way the next one grows."""
        async with self._sending:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_LIST, len(self._waiting)))]
                try:
                    await self._send_list(batch)
                except (Invalid, TooLarge):
                    # All or none: one of them is wrong, and the others shall not suffer.
                    for one in batch:
                        await self._send_one(one)
                except OctasklyError as error:
                    for future, _ in batch:
                        self._fail(future, error)

    async def _send_list(self, batch: list[Asked]) -> None:
        batch = [(future, spec) for future, spec in batch if not future.cancelled()]
        if not batch:
            return
        made = await self._client.submit_many([spec for _, spec in batch])
        for (future, _), task in zip(batch, made, strict=True):
            self._watched[task.id] = future
            future.add_done_callback(partial(self._cancel_task, task.id))
        self._watch.add(task.id for task in made)

    async def _send_one(self, one: Asked) -> None:
        try:
            await self._send_list([one])
        except OctasklyError as error:
            self._fail(one[0], error)

    async def _listen(self) -> None:
        while True:
            found = await self._watch.next()
            if isinstance(found, Unwatched):
                for task_id in found.task_ids:
                    if future := self._watched.pop(task_id, None):
                        self._fail(future, found.error)
                self._something_ended.set()
            elif future := self._watched.pop(found.id, None):
                self._start(self._finish(future, found))

    async def _finish(self, future: futures.Future[Outcome], task: Task) -> None:
        try:
            outcome = await self._client.outcome(task)
        except Exception as error:  # noqa: BLE001 - it is the future's
            self._fail(future, error)
            return
        if self._settle(future):
            future.set_result(outcome)

    async def _cancel(self) -> None:
        """Cancel what is to be cancelled, together: a shutdown may mean thousands."""
        await asyncio.sleep(GATHER_S)
        task_ids, self._to_cancel = self._to_cancel, []
        # The last first: what runs first would only make room for what waits.
        with contextlib.suppress(OctasklyError):
            await self._client.cancel_many(task_ids[::-1])

    # On any thread

    def _cancel_task(self, task_id: str, future: futures.Future[Outcome]) -> None:
        if future.cancelled():
            with contextlib.suppress(RuntimeError):  # The loop has ended, and before it every task.
                self._loop.call_soon_threadsafe(self._start_cancel, task_id)

    def _start_cancel(self, task_id: str) -> None:
        self._to_cancel.append(task_id)
        if len(self._to_cancel) == 1:
            self._start(self._cancel())

    def _forget(self, future: futures.Future[Outcome]) -> None:
        if future.cancelled():
            # Tells those who wait in concurrent.futures.wait.
            self._settle(future)

    def _fail(self, future: futures.Future[Outcome], error: Exception) -> None:
        if self._settle(future):
            future.set_exception(error)

    def _settle(self, future: futures.Future[Outcome]) -> bool:
        """Return whether the future may have its result now: once, and not when it was cancelled."""
        with self._lock:
            if future not in self._open:
                return False
            self._open.discard(future)
            return future.set_running_or_notify_cancel()


def _in_order(started: list[futures.Future[Outcome]]) -> Iterator[Outcome]:
    try:
        started.reverse()
        while started:
            yield started.pop().result()
    finally:
        for future in started:
            future.cancel()
