"""The dispatcher of the simulation: the real core in a shell without threads and sockets.

The shell keeps the order of dispatcher.shell.service: events to the core, its records to one writer that
commits in groups, and messages only after the commit of what stands before them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import (
    ClaimTask,
    CloseLink,
    Effect,
    FetchFitting,
    FetchReady,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    Send,
    SuspendWorker,
)
from dispatcher.core.events import WorkerJoined
from dispatcher.core.reactor import Reactor
from octaskly_wire.messages import (
    AttemptFinished,
    AttemptRejected,
    AttemptStarted,
    DrainStarted,
    Heartbeat,
    HeartbeatAck,
    Register,
    Welcome,
    WorkPaused,
    WorkResumed,
)
from octaskly_wire.vocabulary import Admission
from tests.simulation.store import SimStore
from tests.simulation.world import Connection, Process, World

RECORDS = (ClaimTask, RecordStarted, RecordOutcome, RecordGivenUp, RecordSuperseded, SuspendWorker)
MAX_GROUP_RECORDS = 2000
COMMIT_S = 0.004


class _Step:
    """Effects waiting for the commit of their records."""

    __slots__ = ("effects", "is_committed", "records", "refused")

    def __init__(self, records: list[Any], effects: list[Effect]) -> None:
        self.records = records
        self.effects = effects
        self.is_committed = not records
        self.refused: frozenset[Any] = frozenset()


class SimDispatcher(Process):
    """Dies and comes back on the same store."""

    def __init__(self, world: World, store: SimStore, config: EngineConfig) -> None:
        super().__init__(world, "dispatcher")
        self.store = store
        self.config = config
        self.reactor = Reactor(config)
        self.is_store_available = True
        self.searches = 0
        self._link_ids = 0
        self._reset()

    def _reset(self) -> None:
        self.reactor = Reactor(self.config)
        self._links: dict[str, Connection] = {}
        self._steps: deque[_Step] = deque()
        self._inbox: deque[_Step | FetchReady | FetchFitting] = deque()
        self._committing: list[_Step] = []
        self._is_busy = False

    # --- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover and work."""
        self.begin_life()
        self._reset()
        self.world.note("dispatcher starts")
        self._perform(self.reactor.on_recovered(self.store.recover(), self.clock))
        self.later(0.0, self._tick)
        self.later(1.0, self._watch_wishes)

    def kill(self) -> None:
        """Die between two instructions; a commit under way may have come through."""
        self.end_life()
        came_through = bool(self._committing) and self.world.random.random() < 0.5 and self.is_store_available
        self.world.note(f"dispatcher dies{', its last commit came through' if came_through else ''}")
        if came_through:
            self.store.commit([record for step in self._committing for record in step.records])
        for connection in list(self._links.values()):
            connection.cut("the dispatcher died")

    def check_invariants(self) -> None:
        """Check the core's state."""
        self.reactor.state.check_invariants()

    # --- links -------------------------------------------------------------------------------------

    def greet(self, connection: Connection, boot_id: str) -> None:
        """Answer a worker that has proved who it is; Register follows."""
        row = self.store.workers[connection.worker_id]
        if row.admission is Admission.REVOKED:
            connection.close_by_dispatcher("revoked")
            return
        connection.on_dispatcher_message = lambda message: self._register(connection, boot_id, message)
        connection.to_worker(Welcome(row.admission, self.config.heartbeat_interval_s, self.config.lease_s))

    def _register(self, connection: Connection, boot_id: str, register: Register) -> None:
        worker_id = connection.worker_id
        row = self.store.workers[worker_id]
        row.boot_id = boot_id
        self._link_ids += 1
        connection.link_id = self._link_ids
        connection.on_dispatcher_message = lambda message: self._on_message(connection, message)
        connection.on_dispatcher_end = lambda reason: self._on_end(connection, reason)
        joined = WorkerJoined(
            worker_id=worker_id, link_id=connection.link_id, boot_id=boot_id,
            slots=register.slots, levels=frozenset(proof.level for proof in register.levels),
            allows_network=register.allows_network, memory_mb=register.memory_total_bytes >> 20,
            admission=row.admission, is_draining=row.is_draining, has_begun_drain=register.is_draining,
            held=tuple(register.held), max_limits=register.max_limits, max_timeout_s=register.max_timeout_s,
        )  # fmt: skip
        replaced = self._links.get(worker_id)
        self._links[worker_id] = connection
        if replaced is not None:
            replaced.cut("a newer link of the same worker")
        self._perform(self.reactor.on_worker_joined(joined, self.clock))

    def _on_end(self, connection: Connection, reason: str) -> None:
        worker_id = connection.worker_id
        if self._links.get(worker_id) is connection:
            del self._links[worker_id]
        connection.close_by_dispatcher(reason)
        self._perform(self.reactor.on_link_lost(worker_id, connection.link_id))

    def _on_message(self, connection: Connection, message: Any) -> None:
        worker_id, reactor, now = connection.worker_id, self.reactor, self.clock
        if self._links.get(worker_id) is not connection:
            return
        match message:
            case Heartbeat():
                connection.to_worker(HeartbeatAck(message.sequence))
                self._perform(reactor.on_heartbeat(worker_id, now))
            case AttemptStarted():
                self._perform(reactor.on_attempt_started(worker_id, message.attempt_id))
            case AttemptFinished():
                self._perform(reactor.on_attempt_finished(worker_id, message.attempt_id, message.report, b"", b"", now))
            case AttemptRejected():
                self._perform(
                    reactor.on_attempt_rejected(worker_id, message.attempt_id, message.reason, message.detail, now)
                )
            case DrainStarted():
                self._perform(reactor.on_drain_started(worker_id))
            case WorkPaused():
                self._perform(reactor.on_work_paused(worker_id, message.detail))
            case WorkResumed():
                self._perform(reactor.on_work_paused(worker_id, ""))
            case _:
                raise AssertionError(message)

    # --- people's wishes ---------------------------------------------------------------------------

    def hear_submitted(self, classes: set[Any], tasks: list[Any]) -> None:
        """Learn that tasks were committed, and perhaps what they were like then."""
        if self.is_alive:
            self.later(0.0, lambda: self._perform(self.reactor.on_tasks_submitted(classes, tasks)))

    def hear_cancelled(self, task_id: str) -> None:
        """Learn that a cancel of a live attempt was committed."""
        if self.is_alive:
            self.later(0.0, lambda: self._perform(self.reactor.on_cancel_requested(task_id, self.clock)))

    def _watch_wishes(self) -> None:
        for worker_id, row in self.store.workers.items():
            effects = self.reactor.on_admission_changed(
                worker_id, row.admission, is_draining=row.is_draining, detail="", now=self.clock
            )
            self._perform(effects)
        self.later(1.0, self._watch_wishes)

    def _tick(self) -> None:
        if self.is_store_available:
            self._perform(self.reactor.on_tick(self.clock))
        self.later(self.config.tick_s, self._tick)

    # --- effects -----------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        if not effects:
            return
        step = _Step([effect for effect in effects if isinstance(effect, RECORDS)], effects)
        self._steps.append(step)
        if step.records:
            self._inbox.append(step)
        self._inbox.extend(effect for effect in effects if isinstance(effect, FetchReady | FetchFitting))
        self._write()
        self._carry_out()

    def _write(self) -> None:
        """Begin the next group or look, if the writer is free."""
        if self._is_busy or not self._inbox:
            return
        self._is_busy = True
        if isinstance(self._inbox[0], FetchReady | FetchFitting):
            self.later(COMMIT_S / 2, self._fetched, self._inbox.popleft())
            return
        size = 0
        while self._inbox and isinstance(self._inbox[0], _Step) and size < MAX_GROUP_RECORDS:
            step = self._inbox.popleft()
            assert isinstance(step, _Step)
            self._committing.append(step)
            size += len(step.records)
        self.later(COMMIT_S * (0.5 + self.world.random.random()), self._committed)

    def _committed(self) -> None:
        if not self.is_store_available:
            self.later(0.5, self._committed)
            return
        records = [record for step in self._committing for record in step.records]
        refused = self.store.commit(records)
        self.world.note_records(records, refused)
        for step in self._committing:
            step.is_committed, step.refused = True, refused
        self._committing = []
        self._is_busy = False
        self._write()
        self._carry_out()

    def _fetched(self, wanted: FetchReady | FetchFitting) -> None:
        if not self.is_store_available:
            self.later(0.5, self._fetched, wanted)
            return
        self._is_busy = False
        if isinstance(wanted, FetchReady):
            tasks = self.store.fetch_ready(wanted.classes, wanted.limit)
            self._perform(self.reactor.on_ready_fetched(wanted.classes, tasks, wanted.limit))
        else:
            self.searches += 1
            tasks = self.store.fetch_fitting(wanted.task_class, wanted.ceiling, wanted.limit)
            effects = self.reactor.on_fitting_fetched(wanted.task_class, wanted.ceiling, tasks, wanted.limit)
            self._perform(effects)
        self._write()

    def _carry_out(self) -> None:
        while self._steps and self._steps[0].is_committed:
            step = self._steps.popleft()
            for effect in step.effects:
                self._send(effect, step.refused)

    def _send(self, effect: Effect, refused: frozenset[Any]) -> None:
        if isinstance(effect, Send):
            connection = self._links.get(effect.worker_id)
            if connection and connection.link_id == effect.link_id and effect.unless_refused not in refused:
                connection.to_worker(effect.message)
        elif isinstance(effect, CloseLink):
            connection = self._links.get(effect.worker_id)
            if connection and connection.link_id == effect.link_id:
                del self._links[effect.worker_id]
                connection.close_by_dispatcher("closed")
                self._perform(self.reactor.on_link_lost(effect.worker_id, effect.link_id))
        elif isinstance(effect, ClaimTask) and effect.key in refused:
            self._perform(self.reactor.on_claim_refused(effect.key))
        elif isinstance(effect, RecordSuperseded) and effect.key in refused:
            self._perform(self.reactor.on_outcome_refused(effect.worker_id, effect.key))
