"""What the engine knows at one moment: linked workers, live attempts, the head of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from dispatcher.core.effects import AttemptKey, Effect, ReadyTask, Send, TaskClass
from dispatcher.core.flapping import FailureLog
from dispatcher.core.free_workers import Capability, FreeWorkers, classes_of
from dispatcher.core.pace import Pace
from dispatcher.core.placement import Ceiling, ceiling_of
from dispatcher.core.ready_queue import ReadyQueue
from octaskly_wire.messages import NO_LIMITS, Limits, ToWorker
from octaskly_wire.vocabulary import Admission, SandboxLevel

ENOUGH_A_SLOT: Final = 10
"""One that runs and nine that wait: of the shortest commands as many as a slot takes in twice the time of a commit."""


@dataclass(slots=True)
class WorkerState:
    """A worker that is linked, or that still owns live attempts."""

    worker_id: str
    boot_id: str
    link_id: int | None
    slots: int
    levels: frozenset[SandboxLevel]
    allows_network: bool
    memory_mb: int
    admission: Admission
    is_draining: bool
    has_begun_drain: bool
    """The worker itself said it stops; unlike `is_draining`, which people set on the whitelist."""
    last_heard_at: float
    task_ids: set[str] = field(default_factory=set)
    """Tasks whose live attempt this worker owns."""
    pace: Pace = field(default_factory=Pace)
    pause_reason: str = ""
    """Why it takes nothing new for now by its own word."""
    free_mark: int = 0
    """Its valid entry among the free workers."""
    max_limits: Limits = NO_LIMITS
    max_timeout_s: int | None = None
    ceiling: Ceiling = field(init=False)
    """The most that a task may ask of it."""
    capability: Capability = field(init=False)
    """What decides which tasks it can run."""
    classes: list[TaskClass] = field(init=False)
    """Those of the tasks that it can run, as far as they fit under its ceiling."""

    def __post_init__(self) -> None:
        self.ceiling = ceiling_of(self.memory_mb, self.max_limits, self.max_timeout_s)
        self.capability = (self.levels, self.allows_network, self.ceiling)
        self.classes = classes_of(self.capability)

    @property
    def is_serving(self) -> bool:
        """Return whether it takes tasks in principle, free slot or not."""
        return (
            self.link_id is not None
            and self.admission is Admission.APPROVED
            and not self.is_draining
            and not self.has_begun_drain
            and not self.pause_reason
        )

    @property
    def places(self) -> int:
        """Return how many attempts it may own: its slots, and while its attempts are short some that wait there."""
        return self.slots + self.pace.ahead

    @property
    def is_taking_work(self) -> bool:
        """Return whether an attempt may be given to it now."""
        return len(self.task_ids) < self.places and self.is_serving

    @property
    def load(self) -> float:
        """Return the taken part of its slots; from 1 on what it is given waits there, so that a free slot goes first."""
        return len(self.task_ids) / self.slots

    @property
    def has_stock(self) -> bool:
        """Return whether it has work for more than a moment, so that it does not wait for the next order."""
        return len(self.task_ids) >= ENOUGH_A_SLOT * self.slots

    def tell(self, message: ToWorker, unless_refused: AttemptKey | None = None) -> list[Effect]:
        """Return the effect that sends it a message, or nothing when it has no link."""
        return [] if self.link_id is None else [Send(self.worker_id, self.link_id, message, unless_refused)]


@dataclass(slots=True)
class LiveAttempt:
    """An attempt that was given to a worker and has not ended."""

    key: AttemptKey
    task: ReadyTask
    worker_id: str
    is_started: bool = False
    is_cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """What can be given out, by the workers that take tasks in principle."""

    classes: frozenset[TaskClass]
    slots: int
    slots_under: Mapping[Ceiling, int]
    """By the ceiling of the workers that have them."""


Search = tuple[TaskClass, Ceiling]
"""A look behind the head of a class for what fits under a ceiling."""


@dataclass(slots=True)
class DispatcherState:
    """The whole; rebuilt from the database at start."""

    workers: dict[str, WorkerState] = field(default_factory=dict)
    """In the order in which they were last heard, so that only those that are silent are looked at."""
    attempts: dict[str, LiveAttempt] = field(default_factory=dict)
    """By task id: a task has at most one live attempt."""
    queues: dict[TaskClass, ReadyQueue] = field(default_factory=dict)
    wake_ups: list[tuple[float, TaskClass]] = field(default_factory=list)
    """A heap of moments at which a task of the class becomes due after its backoff."""
    classes_to_fetch: set[TaskClass] = field(default_factory=set)
    searches: dict[Search, bool] = field(default_factory=dict)
    """Wanted looks behind the heads, in turn; True for one that has let a wider one go first."""
    was_search: bool = False
    """The last look was behind a head: the next is at the heads, so that neither holds the other up."""
    free: FreeWorkers = field(default_factory=FreeWorkers)
    failures: FailureLog = field(default_factory=FailureLog)
    is_fetching: bool = False
    is_draining: bool = False
    _service: Service | None = None

    def service(self) -> Service:
        """Return what the serving workers can be given."""
        if self._service is None:
            serving = [worker for worker in self.workers.values() if worker.is_serving]
            capabilities = {worker.capability for worker in serving}
            classes = frozenset(task_class for capability in capabilities for task_class in classes_of(capability))
            slots_under: dict[Ceiling, int] = {}
            for worker in serving:
                slots_under[worker.ceiling] = slots_under.get(worker.ceiling, 0) + worker.slots
            self._service = Service(classes, sum(slots_under.values()), slots_under)
        return self._service

    def on_service_changed(self) -> None:
        """Forget what was worked out of the workers; call when one comes, goes, or begins or ends to take tasks."""
        self._service = None

    def hear(self, worker: WorkerState, now: float) -> None:
        """Note that a worker lives."""
        worker.last_heard_at = now
        self.workers[worker.worker_id] = self.workers.pop(worker.worker_id)

    def silent_for(self, seconds: float, now: float) -> list[WorkerState]:
        """Return the workers that were last heard longer ago than that."""
        return list(takewhile(lambda worker: now - worker.last_heard_at > seconds, self.workers.values()))

    def find_attempt(self, attempt_id: str, worker_id: str) -> LiveAttempt | None:
        """Return the live attempt with exactly this id, if this worker owns it."""
        key = AttemptKey.parse(attempt_id)
        attempt = self.attempts.get(key.task_id) if key else None
        return attempt if attempt and attempt.key == key and attempt.worker_id == worker_id else None

    def start_attempt(self, attempt: LiveAttempt) -> None:
        """Enter an attempt and take its slot."""
        self.attempts[attempt.key.task_id] = attempt
        self.workers[attempt.worker_id].task_ids.add(attempt.key.task_id)

    def end_attempt(self, attempt: LiveAttempt) -> None:
        """Forget an attempt, free its slot, and forget its worker if that is gone and owns nothing more."""
        del self.attempts[attempt.key.task_id]
        worker = self.workers[attempt.worker_id]
        worker.task_ids.discard(attempt.key.task_id)
        self.forget_if_gone(worker)

    def forget_if_gone(self, worker: WorkerState) -> None:
        """Drop a worker that has no link and owns nothing."""
        if worker.link_id is None and not worker.task_ids:
            del self.workers[worker.worker_id]

    def check_invariants(self) -> None:
        """Raise AssertionError when two parts of the state contradict each other. For tests."""
        owned = [task_id for worker in self.workers.values() for task_id in worker.task_ids]
        assert sorted(owned) == sorted(self.attempts), "workers and attempts disagree"  # noqa: S101
        for task_id, attempt in self.attempts.items():
            assert attempt.key.task_id == task_id, "an attempt stands under another task"  # noqa: S101
            assert task_id in self.workers[attempt.worker_id].task_ids, "the owner does not know"  # noqa: S101
        for worker in self.workers.values():
            assert worker.link_id is not None or worker.task_ids, "a gone worker is kept for nothing"  # noqa: S101
        heard = [worker.last_heard_at for worker in self.workers.values()]
        assert heard == sorted(heard), "workers do not stand in the order in which they were heard"  # noqa: S101
        if self.is_draining:
            return
        for worker in self.workers.values():
            for task_class in worker.classes if worker.is_taking_work else ():
                queue = self.queues.get(task_class)
                waiting = queue.best_under(worker.ceiling) if queue else None
                assert not waiting, f"{worker.worker_id} idles while {waiting} waits"  # noqa: S101
