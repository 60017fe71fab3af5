"""A simulated cluster under one seed: a load, a plan of faults, and the promises checked after every step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey
from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tests.simulation.dispatcher import SimDispatcher
from tests.simulation.store import BASIC, ENDED, SimStore, TaskRow, WorkerRow
from tests.simulation.worker import Behaviour, SimWorker, make_offer
from tests.simulation.world import InvariantBroken, Network, World
from worker_node.core.outcome import Outcome

MAX_LOSSES = 5
FEW_TASKS = 4
"""So many that are submitted together are told to the engine, which then need not look."""


@dataclass(slots=True)
class Counts:
    """What happened, for the report."""

    executions: int = 0
    kills: int = 0
    told_committed: int = 0


@dataclass(slots=True)
class Client:
    """Who submits, and repeats a request until it is answered."""

    acknowledged: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    unanswered: int = 0


class SimCluster:
    """Dispatcher, workers, client and the checker."""

    def __init__(self, world: World, config: EngineConfig | None = None) -> None:
        self.world = world
        self.config = config or EngineConfig()
        self.network = Network(world)
        self.store = SimStore(now=lambda: world.now)
        self.dispatcher = SimDispatcher(world, self.store, self.config)
        self.workers: dict[str, SimWorker] = {}
        self.client = Client()
        self.counts = Counts()
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.executed: dict[str, str] = {}
        """Which worker life began the command of each attempt."""
        world.after_step = self.check_step

    # --- building ----------------------------------------------------------------------------------

    def add_worker(self, name: str, slots: int, **offered: Any) -> SimWorker:
        """Enrol a worker; it is approved and not started."""
        self.store.workers[name] = WorkerRow()
        offer = make_offer(name, slots, **offered)
        self.workers[name] = SimWorker(self.world, name, self.network, self.dispatcher, self, offer)
        return self.workers[name]

    def submit(self, rows: list[TaskRow], behaviours: dict[str, list[Behaviour]]) -> None:
        """Send a request as a client does: again and again until the answer is there."""
        self.behaviours |= behaviours
        self.client.unanswered += 1
        self._request(rows)

    def _request(self, rows: list[TaskRow]) -> None:
        random = self.world.random
        if not self.dispatcher.is_alive or not self.dispatcher.is_store_available:
            self.world.after(1.0, self._request, rows)
            return
        life = self.dispatcher.life
        self.world.after(random.uniform(0.001, 0.02), self._commit_request, rows, life)

    def _commit_request(self, rows: list[TaskRow], life: int) -> None:
        if not self.dispatcher.is_alive or self.dispatcher.life != life or not self.dispatcher.is_store_available:
            self.world.after(1.0, self._request, rows)
            return
        self.store.insert(rows)
        if self.world.random.random() < 0.95:  # the rest is committed by another process, which tells nobody
            told = [row.ready() for row in rows if row.status == "queued"] if len(rows) <= FEW_TASKS else []
            late_s = self.world.random.choice((0.0, 0.0, 0.05))
            self.world.after(late_s, self.dispatcher.hear_submitted, {row.task_class for row in rows}, told)
        self.world.after(self.world.random.uniform(0.001, 0.01), self._answer_request, rows, life)

    def _answer_request(self, rows: list[TaskRow], life: int) -> None:
        if not self.dispatcher.is_alive or self.dispatcher.life != life:
            self.world.after(1.0, self._request, rows)  # committed, but the client cannot know
            return
        self.client.acknowledged |= {row.task_id for row in rows}
        self.client.unanswered -= 1

    def cancel(self, task_id: str) -> None:
        """Ask for a task's cancellation, once it is there."""
        if not self.dispatcher.is_alive or not self.dispatcher.is_store_available or task_id not in self.store.tasks:
            self.world.after(1.0, self.cancel, task_id)
            return
        self.client.cancelled.add(task_id)
        if self.store.cancel(task_id):
            self.dispatcher.hear_cancelled(task_id)

    # --- what workers tell -------------------------------------------------------------------------

    def behaviour(self, assignment: AssignAttempt) -> Behaviour:
        """Return what this execution does; the last one of a list repeats."""
        planned = self.behaviours[assignment.task_id]
        return planned.pop(0) if len(planned) > 1 else planned[0]

    def on_command_started(self, worker: SimWorker, attempt_id: str) -> None:
        """Check that no attempt runs twice."""
        self.counts.executions += 1
        life = f"{worker.name}-{worker.life}"
        self.world.note(f"{worker.name} runs {attempt_id}")
        if attempt_id in self.executed:
            raise InvariantBroken(f"{attempt_id} runs twice: on {self.executed[attempt_id]}, then on {life}")
        self.executed[attempt_id] = life

    def on_told_committed(self, worker: SimWorker, attempt_id: str, outcome: Outcome) -> None:
        """Check that an acknowledged outcome is on record as it was told."""
        self.counts.told_committed += 1
        key = AttemptKey.parse(attempt_id)
        row = self.store.attempts.get(key) if key else None
        if row is None or not row.outcome:
            raise InvariantBroken(f"{worker.name} forgets {attempt_id}, of which nothing is on record")
        if outcome.report.failure_reason is FailureReason.WORKER_LOST:
            return  # Lost, or on record before its file was damaged: either way it is over.
        if row.told is None or row.told.duration_ms != outcome.report.duration_ms:
            raise InvariantBroken(f"{worker.name} forgets an outcome of {attempt_id} that is not the one on record")

    # --- promises ----------------------------------------------------------------------------------

    def check_step(self) -> None:
        """Check what must hold at every moment. What must fit a record is checked by the store itself."""
        if self.store.alarms:
            raise InvariantBroken("an honest worker's outcome was refused as contradicting")
        process = self.world.acting
        if process and process.is_alive:
            process.check_invariants()

    def is_quiet(self) -> bool:
        """Return whether all that was submitted has ended and nobody waits for anybody."""
        if self.store.open_tasks or self.client.unanswered:
            return False
        return not any(
            worker.spool or worker.state.finished or worker.state.running for worker in self.workers.values()
        )

    def check_end(self) -> None:
        """Check what must hold when all has calmed down."""
        missing = self.client.acknowledged - set(self.store.tasks)
        if missing:
            raise InvariantBroken(f"acknowledged and lost: {sorted(missing)[:5]}")
        accepted: dict[str, int] = {}
        for key, attempt in self.store.attempts.items():
            if attempt.outcome == "reported":
                accepted[key.task_id] = accepted.get(key.task_id, 0) + 1
        for row in self.store.tasks.values():
            if row.status not in ENDED:
                raise InvariantBroken(f"{row.task_id} never ended: {row}")
            self._check_ending(row, accepted.get(row.task_id, 0))
        for worker in self.workers.values():
            if worker.is_alive and not worker.state.is_idle:
                raise InvariantBroken(f"{worker.name} still holds {worker.state.held()}")
        if self.dispatcher.is_alive and self.dispatcher.reactor.state.attempts:
            raise InvariantBroken(f"attempts without an end: {sorted(self.dispatcher.reactor.state.attempts)}")

    def _check_ending(self, row: TaskRow, accepted: int) -> None:
        if row.status == "completed" and accepted != 1 + row.failures:
            raise InvariantBroken(f"{accepted} outcomes count for {row}")
        if row.failure_reason is FailureReason.WORKER_LOST and row.losses != MAX_LOSSES:
            raise InvariantBroken(f"given up as poison after {row.losses} losses: {row}")
        if row.failures > row.max_retries + 1 or row.losses > MAX_LOSSES:
            raise InvariantBroken(f"over its budgets: {row}")
        if row.status == "cancelled" and row.task_id not in self.client.cancelled:
            raise InvariantBroken(f"cancelled, though nobody asked: {row}")
        last = self.behaviours[row.task_id][-1]
        if row.status == "failed" and row.failure_reason is FailureReason.EXIT_CODE and last.exit_code == 0:
            raise InvariantBroken(f"failed, though its retries would have done: {row}")

    def re_executions(self) -> int:
        """Return how many commands ran beyond the first of each task and beyond the retries that failures earned."""
        executions = Counter(attempt_id.rpartition(".")[0] for attempt_id in self.executed)
        return sum(max(0, count - 1 - self.store.tasks[task_id].retries) for task_id, count in executions.items())


CLASSES = (BASIC, (SandboxLevel.STRICT, False), (SandboxLevel.NONE, True))
