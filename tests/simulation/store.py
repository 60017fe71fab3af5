"""The database of the simulation: what is committed survives, and every record must fit what is there.

It mirrors tasks_app.dispatch_store, but where that ignores what does not fit (compare-and-set), this one
raises: in the pure cores' own order of things nothing may fail to fit.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.core.effects import (
    AttemptKey,
    ClaimTask,
    ReadyTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
    TaskClass,
)
from dispatcher.core.events import RecoveredAttempt
from dispatcher.core.placement import Ceiling
from octaskly_wire.messages import NO_LIMITS, Limits, OutcomeReport
from octaskly_wire.vocabulary import Admission, FailureReason, RejectionReason, SandboxLevel
from tests.simulation.world import InvariantBroken

NO_ROOM = f"{RejectionReason.NO_FREE_SLOT}: all slots are taken"
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class TaskRow:
    """A row of `tasks`."""

    task_id: str
    task_class: TaskClass
    priority: int = 0
    max_retries: int = 0
    limits: Limits = NO_LIMITS
    timeout_s: int = 3600
    command: str = "true"
    status: str = "queued"
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    retries: int = 0
    worker_id: str | None = None
    is_assigned: bool = False
    is_started: bool = False
    is_cancel_requested: bool = False
    available_at: float = 0.0
    failure_reason: FailureReason | None = None

    def ready(self) -> ReadyTask:
        """Return the row as the core gets it."""
        return ReadyTask(
            self.task_id, self.command, self.priority, self.timeout_s, *self.task_class, {}, self.limits,
            self.max_retries, self.attempt, self.failures, self.losses,
        )  # fmt: skip


@dataclass(slots=True)
class AttemptRow:
    """A row of `results`."""

    worker_id: str
    outcome: str = ""
    told: OutcomeReport | None = None
    is_superseded: bool = False


@dataclass(slots=True)
class WorkerRow:
    """A row of `workers`."""

    admission: Admission = Admission.APPROVED
    is_draining: bool = False
    boot_id: str = ""


@dataclass(slots=True)
class _Queue:
    """Queued tasks of one class, in the order in which they are claimed; a million of them, without sorting at each look."""

    rows: dict[str, TaskRow] = field(default_factory=dict)
    _heap: list[tuple[int, str]] = field(default_factory=list)
    """Also of tasks that are gone by now."""

    def add(self, row: TaskRow) -> None:
        """Put it in."""
        self.rows[row.task_id] = row
        heapq.heappush(self._heap, (-row.priority, row.task_id))

    def discard(self, task_id: str) -> None:
        """Take it out, if it is there."""
        self.rows.pop(task_id, None)

    def due(self, now: float, limit: int | None = None) -> list[TaskRow]:
        """Return the first that may be claimed now."""
        present: list[tuple[int, str]] = []
        found: list[TaskRow] = []
        while self._heap and (limit is None or len(found) < limit):
            place = heapq.heappop(self._heap)
            row = self.rows.get(place[1])
            if row is None or (present and present[-1] == place):
                continue
            present.append(place)
            if row.available_at <= now:
                found.append(row)
        for place in present:
            heapq.heappush(self._heap, place)
        return found


@dataclass(slots=True)
class SimStore:
    """What outlives the dispatcher."""

    now: Any
    """Returns the wall clock's time."""
    keeps_history: bool = True
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    attempts: dict[AttemptKey, AttemptRow] = field(default_factory=dict)
    workers: dict[str, WorkerRow] = field(default_factory=dict)
    open_tasks: int = 0
    suspensions: int = 0
    alarms: int = 0
    superseded: int = 0
    handed_back: int = 0
    _never_granted: set[AttemptKey] = field(default_factory=set)
    """Claims that were refused. What the core decides before it hears of that concerns nobody."""
    _queues: defaultdict[TaskClass, _Queue] = field(default_factory=lambda: defaultdict(_Queue))
    _live: dict[str, TaskRow] = field(default_factory=dict)

    # --- people ------------------------------------------------------------------------------------

    def insert(self, rows: Iterable[TaskRow]) -> None:
        """Commit a submit; one that is there already (a repeated request) is left alone."""
        for row in rows:
            if row.task_id not in self.tasks:
                row.available_at = self.now()
                self.tasks[row.task_id] = row
                self.open_tasks += 1
                self._enqueue(row)

    def cancel(self, task_id: str) -> bool:
        """Commit a cancel; return whether a live attempt must be told."""
        row = self.tasks[task_id]
        if row.status in ENDED:
            return False
        if row.is_assigned:
            row.is_cancel_requested = True
            return True
        row.is_cancel_requested = True
        self._finish(row, "cancelled", FailureReason.CANCELLED)
        return False

    # --- the engine --------------------------------------------------------------------------------

    def recover(self) -> list[RecoveredAttempt]:
        """Return what is live."""
        found = []
        for row in self._live.values():
            ready = row.ready()
            before = ReadyTask(
                **{name: getattr(ready, name) for name in ready.__slots__} | {"attempt": row.attempt - 1}
            )
            worker_id = row.worker_id or ""
            found.append(
                RecoveredAttempt(
                    before,
                    row.attempt,
                    worker_id,
                    self.workers[worker_id].boot_id,
                    row.is_started,
                    row.is_cancel_requested,
                )
            )
        return found

    def fetch_ready(self, classes: Iterable[TaskClass], limit: int) -> list[ReadyTask]:
        """Return the heads of the queues."""
        return [row.ready() for task_class in classes for row in self._queues[task_class].due(self.now(), limit)]

    def fetch_fitting(self, task_class: TaskClass, ceiling: Ceiling, limit: int) -> list[ReadyTask]:
        """Return the first that ask for no more than the ceiling allows."""
        most = ceiling.timeout_s or math.inf
        fitting = [
            row
            for row in self._queues[task_class].due(self.now())
            if row.timeout_s <= most and row.limits.excess_over(ceiling.limits) is None
        ]
        return [row.ready() for row in fitting[:limit]]

    def commit(self, records: Sequence[Any]) -> frozenset[AttemptKey]:
        """Write a group; return what was refused."""
        refused = set()
        for item in records:
            match item:
                case ClaimTask():
                    if not self._claim(item):
                        refused.add(item.key)
                case RecordStarted():
                    row = self._live_row(item.key, item.worker_id)
                    row.is_started, row.status = True, "running"
                case RecordOutcome():
                    self._outcome(item)
                case RecordGivenUp():
                    self._given_up(item)
                case RecordSuperseded():
                    if not self._superseded(item):
                        refused.add(item.key)
                case SuspendWorker():
                    if self.workers[item.worker_id].admission is Admission.APPROVED:
                        self.workers[item.worker_id].admission = Admission.SUSPENDED
                        self.suspensions += 1
                case _:
                    raise AssertionError(item)
        return frozenset(refused)

    def _claim(self, claim: ClaimTask) -> bool:
        row = self.tasks[claim.key.task_id]
        if row.attempt != claim.key.number - 1 or row.is_assigned or row.status != "queued" or row.is_cancel_requested:
            self._never_granted.add(claim.key)
            return False
        row.attempt, row.worker_id, row.is_assigned, row.is_started = claim.key.number, claim.worker_id, True, False
        self._queues[row.task_class].discard(row.task_id)
        self._live[row.task_id] = row
        if self.keeps_history:
            self.attempts[claim.key] = AttemptRow(claim.worker_id)
        return True

    def _live_row(self, key: AttemptKey, worker_id: str) -> TaskRow:
        row = self._live.get(key.task_id)
        if row is None or (row.attempt, row.worker_id) != (key.number, worker_id):
            raise InvariantBroken(f"a record for {key.attempt_id} of {worker_id}, which is not live: {row}")
        return row

    def _outcome(self, ended: RecordOutcome) -> None:
        row = self._live_row(ended.key, ended.worker_id)
        if self.keeps_history:
            attempt = self.attempts[ended.key]
            attempt.outcome, attempt.told = "reported", ended.report
        is_failure = ended.report.failure_reason not in {None, FailureReason.CANCELLED}
        row.failures += is_failure
        if ended.retry_delay_s is not None:
            row.retries += 1
            self._requeue(row, ended.retry_delay_s)
        elif ended.report.failure_reason is FailureReason.CANCELLED or (is_failure and row.is_cancel_requested):
            self._finish(row, "cancelled", FailureReason.CANCELLED)
        else:
            self._finish(row, "failed" if is_failure else "completed", ended.report.failure_reason)

    def _given_up(self, given_up: RecordGivenUp) -> None:
        if given_up.key in self._never_granted:
            return
        row = self._live_row(given_up.key, given_up.worker_id)
        if self.keeps_history:
            self.attempts[given_up.key].outcome = "lost" if given_up.is_loss else "rejected"
        if given_up.detail.startswith(RejectionReason.LIMIT_NOT_ALLOWED):
            raise InvariantBroken(f"{given_up.worker_id} was given what it does not allow: {given_up.detail}")
        if given_up.detail == NO_ROOM:
            raise InvariantBroken(f"{given_up.worker_id} was given more than it has room for")
        self.handed_back += given_up.detail.startswith(RejectionReason.NO_FREE_SLOT)
        row.losses += given_up.is_loss
        if given_up.retry_delay_s is not None:
            self._requeue(row, given_up.retry_delay_s)
        else:
            is_cancel = given_up.failure_reason is FailureReason.CANCELLED
            self._finish(row, "cancelled" if is_cancel else "failed", given_up.failure_reason)

    def _superseded(self, late: RecordSuperseded) -> bool:
        attempt = self.attempts.get(late.key)
        if attempt is None or attempt.worker_id != late.worker_id or attempt.outcome == "":
            self.alarms += 1
            return False
        if late.report.failure_reason is FailureReason.WORKER_LOST:
            return True  # Of an attempt that is over that is no news.
        if attempt.told is not None and attempt.told != late.report:
            self.alarms += 1
            return False
        if attempt.told is None:
            attempt.told, attempt.is_superseded = late.report, True
            self.superseded += 1
        return True

    def _requeue(self, row: TaskRow, delay_s: float) -> None:
        if row.is_cancel_requested:
            self._finish(row, "cancelled", FailureReason.CANCELLED)
            return
        del self._live[row.task_id]
        row.status, row.is_assigned, row.is_started, row.worker_id = "queued", False, False, None
        row.available_at = self.now() + delay_s
        self._enqueue(row)

    def _enqueue(self, row: TaskRow) -> None:
        self._queues[row.task_class].add(row)

    def _finish(self, row: TaskRow, status: str, reason: FailureReason | None) -> None:
        if row.status in ENDED:
            raise InvariantBroken(f"{row.task_id} ends twice: {row.status}, then {status}")
        self._live.pop(row.task_id, None)
        self._queues[row.task_class].discard(row.task_id)
        row.status, row.failure_reason, row.is_assigned = status, reason, False
        self.open_tasks -= 1


BASIC: TaskClass = (SandboxLevel.BASIC, False)
