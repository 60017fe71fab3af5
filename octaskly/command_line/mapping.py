"""Runs a map: values become tasks in lists, tasks that end become output, files and lines of the joblog.

Two loops share a window of tasks that are in the queue: one fills it, the other waits for any of them to end. What
comes of a task is fetched beside both, and written by one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from octaskly import joblog, templates
from octaskly.answers import Task
from octaskly.command_line import exit_codes, interrupts, waiting
from octaskly.command_line.connect import MAP_PATIENCE_S, async_client
from octaskly.command_line.fetched import Fetched, bring_home, document
from octaskly.command_line.printer import Done, Printer
from octaskly.command_line.progress import Progress
from octaskly.command_line.results import keep
from octaskly.command_line.show import json_line, tell
from octaskly.command_line.value_feed import Values
from octaskly.errors import BadFile, OctasklyError
from octaskly.outcomes import Outcome
from octaskly.specs import TaskOptions, task_spec
from octaskly.watch import Unwatched, Watch

MAX_IN_QUEUE: Final = 2_000
"""Enough for any cluster to be busy; the rest is submitted as room comes."""
MAX_LIST: Final = 500
MAX_LIST_WITH_INPUTS: Final = 32
"""Small, so that workers begin while the next inputs go up."""
MAX_LIST_CHARACTERS: Final = 4 << 20
FETCHES_AT_ONCE: Final = 8
LOOK_S: Final = 1.0
SENDING_S: Final = 20.0
"""A list that is on its way is waited for this long before all is cancelled."""
MOST_TOLD: Final = 101
"""GNU Parallel's exit code for more than a hundred failures."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    template: str
    """Empty: the values are commands."""
    inputs: tuple[str, ...]
    options: TaskOptions
    keep_order: bool
    at_once: int | None
    halt_on_error: bool
    log: Path | None
    resumes: bool
    repeats_failed: bool
    results: Path | None
    output_dir: Path
    raw: bool
    as_json: bool


class Item(msgspec.Struct, kw_only=True):
    """One value on its way."""

    number: int
    values: tuple[str, ...]
    command: str
    sent_bytes: int = 0
    warnings: list[str] = []


class Mapping:
    """One map, from its values to its exit code."""

    def __init__(self, plan: Plan, values: Values) -> None:
        self._plan = plan
        self._values = values
        self._known = joblog.read(plan.log) if plan.log and plan.resumes else {}
        self._in_queue: dict[str, Item] = {}
        self._has_room = asyncio.Condition()
        self._untold: set[str] = set()
        self._is_fed = False
        self._is_stopping = False
        self._feeding: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._halting: asyncio.Task[None] | None = None
        self._failed = 0
        self._fetching: set[asyncio.Task[None]] = set()
        self._fetch_room = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._hosts: dict[str, str] = {}
        self._warner = waiting.Warner()

    async def to_its_end(self) -> int:
        """Return the exit code."""
        with contextlib.ExitStack() as stack:
            self._log: IO[str] | None = None
            if self._plan.log:
                self._log = stack.enter_context(joblog.open_for_more(self._plan.log, keeps=self._plan.resumes))
            self._progress = stack.enter_context(Progress(self._values.total))
            self._printer = Printer(self._progress, keeps_order=self._plan.keep_order, is_raw=self._plan.raw)
            interrupt = stack.enter_context(interrupts.watched())
            async with async_client(MAP_PATIENCE_S) as self._client, Watch(self._client) as self._watch:
                return await self._all(interrupt)

    async def _all(self, interrupt: interrupts.Interrupts) -> int:
        await self._learn_hosts()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feeding = asyncio.create_task(self._feed())
        collecting = asyncio.create_task(self._collect())
        stopping = asyncio.create_task(interrupt.has_come.wait())
        drawing = asyncio.create_task(self._progress.draw())
        explaining = asyncio.create_task(self._explain())
        try:
            pending: set[asyncio.Future[Any]] = {self._feeding, collecting, stopping, self._broken}
            while not collecting.done() and not stopping.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for work in done:
                    if not work.cancelled():
                        work.result()
            if not collecting.done():
                await self._stop(tells=True)
                return interrupt.code
            if self._halting:
                await self._halting
            await self._printer.finish()
        except BaseException:
            with contextlib.suppress(OctasklyError):
                await self._stop()
            raise
        finally:
            works: tuple[asyncio.Future[Any], ...] = (
                self._feeding,
                collecting,
                stopping,
                drawing,
                explaining,
                self._broken,
                *self._fetching,
            )
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        return min(self._failed, MOST_TOLD)

    # Filling the queue

    async def _feed(self) -> None:
        numbers = itertools.count(1)
        while not self._is_stopping:
            room = await self._room()
            values = await self._values.take(room)
            if not values:
                break
            items = [item for item in (self._item(next(numbers), value) for value in values) if item is not None]
            for start, stop in _cuts(items):
                await self._submit(items[start:stop])
        await self._end_feeding()

    async def _end_feeding(self) -> None:
        async with self._has_room:
            self._is_fed = True
            self._has_room.notify_all()

    async def _room(self) -> int:
        most = self._plan.at_once or MAX_IN_QUEUE
        async with self._has_room:
            await self._has_room.wait_for(lambda: len(self._in_queue) < most)
        return min(most - len(self._in_queue), MAX_LIST_WITH_INPUTS if self._plan.inputs else MAX_LIST)

    def _item(self, number: int, values: tuple[str, ...]) -> Item | None:
        command = templates.filled(self._plan.template, values, number) if self._plan.template else " ".join(values)
        if known := self._known.get(number):
            if known.command != command:
                raise BadFile(
                    f"The joblog's task {number} was another: {known.command!r}, not {command!r}. "
                    "Resume with the same command and values, or without --resume"
                )
            if known.ok or not self._plan.repeats_failed:
                self._progress.count(ok=known.ok)
                self._printer.skip(number)
                return None
        return Item(number=number, values=values, command=command)

    async def _submit(self, items: list[Item]) -> None:
        specs = await asyncio.gather(*(self._spec(item) for item in items))
        ready = [(item, spec) for item, spec in zip(items, specs, strict=True) if spec is not None]
        if not ready or self._is_stopping:
            return
        # Not to be broken off: what the server has taken must be known here, to be cancelled.
        self._sending = asyncio.create_task(self._send(ready))
        await asyncio.shield(self._sending)

    async def _send(self, ready: list[tuple[Item, dict[str, Any]]]) -> None:
        made = await self._client.submit_many([spec for _, spec in ready])
        async with self._has_room:
            for task, (item, _) in zip(made, ready, strict=True):
                item.warnings = task.warnings
                self._in_queue[task.id] = item
                self._untold.add(task.id)
            self._watch.add(task.id for task in made)
            self._has_room.notify_all()
        if not self._plan.as_json and any(task.warnings for task in made):
            with self._progress.hidden():
                self._warner.tell(made)

    async def _spec(self, item: Item) -> dict[str, Any] | None:
        """Return the task for an item, its inputs uploaded; None when they cannot be, which counts as failed."""

        def fill(text: str) -> str:
            return templates.filled_plainly(text, item.values, item.number)

        options = self._plan.options.copy()
        options["outputs"] = [fill(pattern) for pattern in options.get("outputs", ())]
        if "name" in options:
            options["name"] = fill(options["name"])
        try:
            async with self._fetch_room:
                sent = await self._client.uploaded([fill(path) for path in self._plan.inputs])
        except BadFile as error:
            said = {**_head(item), "error": str(error)}
            shown = json_line(said) if self._plan.as_json else b""
            await self._end(Done(item.number, shown, b"", f"{item.number}: {error}"), ok=False)
            return None
        item.sent_bytes = sum(one.size for one in sent)
        return task_spec(item.command, options, [one.reference for one in sent])

    # Taking what has ended

    async def _collect(self) -> None:
        while True:
            async with self._has_room:
                await self._has_room.wait_for(lambda: self._untold or self._is_fed)
            if not self._untold:
                break
            found = await self._watch.next()
            if isinstance(found, Unwatched):
                raise found.error
            self._untold.discard(found.id)
            work = asyncio.create_task(self._take(self._in_queue[found.id], found))
            self._fetching.add(work)
            work.add_done_callback(self._fetched)
            while len(self._fetching) >= FETCHES_AT_ONCE:
                await asyncio.wait(self._fetching, return_when=asyncio.FIRST_COMPLETED)
        while self._fetching:
            await asyncio.wait(self._fetching)

    async def _explain(self) -> None:
        """Say why nothing runs: on a terminal beside the bar for as long as that is so, elsewhere once."""
        await asyncio.sleep(waiting.QUIET_WAIT_S)
        with contextlib.suppress(OctasklyError):
            while not (self._progress.done or self._is_stopping):
                if oldest := next(iter(self._in_queue), None):
                    why = await self._client.why(oldest)
                    if why.status != "queued" or self._progress.done:
                        break
                    if not self._progress.is_drawn:
                        if not self._warner.has_told:
                            tell(waiting.sentence(why, oldest))
                        break
                    self._progress.note(f"Nothing runs yet: {waiting.reasons(why)}")
                await asyncio.sleep(LOOK_S)
        self._progress.note("")

    def _fetched(self, work: asyncio.Task[None]) -> None:
        self._fetching.discard(work)
        if not work.cancelled() and (error := work.exception()) and not self._broken.done():
            self._broken.set_exception(error)

    async def _take(self, item: Item, task: Task) -> None:
        """Bring home what came of a task, note it and print it."""
        try:
            if self._is_stopping and task.status == "cancelled":
                return  # By us: it is neither done nor failed, and a resumed map runs it.
            outcome = await self._outcome(task)
            attempt = None
            if exit_codes.needs_attempt(task):
                attempts = await self._client.attempts(task.id)
                attempt = attempts[-1] if attempts else None
            code, sentence = exit_codes.exit_code(task, attempt)
            fetched: list[Fetched] = []
            if task.outputs and task.status != "cancelled":
                try:
                    await bring_home(self._client, task, self._plan.output_dir, fetched)
                except BadFile as error:
                    code, sentence = code or 1, str(error)
            received = sum(file.size for file in fetched)
            signal = attempt.signal or 0 if attempt and task.failure_reason == "signal" else 0
            self._note(item, task, code=0 if signal else code, signal=signal, received=received)
            if self._plan.results:
                await asyncio.to_thread(keep, self._plan.results, item.number, item.values, outcome)
            complaint = f"{item.number}: {sentence}" if sentence else ""
            shown, beside = outcome.stdout, outcome.stderr
            if self._plan.as_json:
                shown, beside = json_line({**_head(item), **document(task, fetched, item.warnings)}), b""
            await self._end(Done(item.number, shown, beside, complaint), ok=code == 0)
        finally:
            async with self._has_room:
                self._in_queue.pop(task.id, None)
                self._has_room.notify_all()

    async def _outcome(self, task: Task) -> Outcome:
        """Return the output byte by byte, unless only the task's own text is shown."""
        if self._plan.as_json and not self._plan.results:
            return Outcome(task=task, stdout=b"", stderr=b"")
        return await self._client.outcome(task)

    def _note(self, item: Item, task: Task, *, code: int, signal: int, received: int) -> None:
        if self._log is None:
            return
        started = task.started_at or task.created_at
        line = joblog.Line(
            number=item.number,
            host=self._hosts.get(task.worker_id or "", task.worker_id or ":"),
            started_at=started.timestamp() if started else 0.0,
            duration_s=(task.duration_ms or 0) / 1000,
            sent_bytes=item.sent_bytes,
            received_bytes=received,
            exit_code=code,
            signal=signal,
            command=item.command,
        )
        self._log.write(line.text() + "\n")
        self._log.flush()

    async def _end(self, done: Done, *, ok: bool) -> None:
        self._failed += not ok
        self._progress.count(ok=ok)
        await self._printer.add(done.number, done)
        if not ok and self._plan.halt_on_error and not self._is_stopping:
            self._is_stopping = True
            with self._progress.hidden():
                tell(f"Task {done.number} failed: all that have not ended are cancelled")
            # Beside: this may be running inside of what is stopped.
            self._halting = asyncio.create_task(self._stop(but=done.number))

    # Stopping

    async def _stop(self, but: int = 0, *, tells: bool = False) -> None:
        """Submit nothing more, and cancel what is in the queue, all `but` one of this number."""
        self._is_stopping = True
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait({self._feeding})
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=SENDING_S)
        await self._end_feeding()
        if self._in_queue and tells:
            with self._progress.hidden():
                tell(f"Cancelling {len(self._in_queue)} tasks; once more leaves at once")
        await self._cancel_all(but)

    async def _cancel_all(self, but: int) -> None:
        # The last first: what runs first would only make room for what waits.
        waiting = [task_id for task_id, item in self._in_queue.items() if item.number != but][::-1]
        await self._client.cancel_many(waiting)

    async def _learn_hosts(self) -> None:
        # A client may not see the workers: then the joblog has their ids.
        if self._plan.log:
            with contextlib.suppress(OctasklyError):
                self._hosts = {worker.id: worker.name for worker in await self._client.workers()}


def _head(item: Item) -> dict[str, Any]:
    return {"seq": item.number, "values": item.values, "command": item.command}


def _cuts(items: list[Item]) -> Iterator[tuple[int, int]]:
    """Yield the places where a list is cut, so that no request grows too large."""
    start = length = 0
    for place, item in enumerate(items):
        if place > start and length + len(item.command) > MAX_LIST_CHARACTERS:
            yield start, place
            start, length = place, 0
        length += len(item.command)
    if items:
        yield start, len(items)
