"""The engine's decisions: one method an event, each returning the effects in order. Pure.

Theory of operation. A task in the head of the queue is claimed for a worker with a free slot, or for one that
works off short attempts and lets it wait a moment; that makes an attempt, whose id (task id and number) fences
everything said about it later. An attempt ends by the worker's report, by the worker handing it back, by loss of
the worker (silent for lease plus grace, or back with a new boot id), or by fencing (suspended, revoked). Whatever
comes for an attempt that has ended is recorded as superseded and acknowledged, so that the worker can forget it;
the store refuses it when it contradicts the outcome on record.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from dispatcher.core.assignment import assign_ready, fetch_head, fill_worker, take_told
from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import (
    AttemptKey,
    CloseLink,
    Effect,
    ReadyTask,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    TaskClass,
)
from dispatcher.core.endings import charge, end, give_back, jitter, lose
from dispatcher.core.events import RecoveredAttempt, WorkerJoined
from dispatcher.core.placement import Ceiling
from dispatcher.core.ready_queue import BEHIND_ALL, Order, ReadyQueue
from dispatcher.core.reported_files import with_sound_files
from dispatcher.core.state import DispatcherState, LiveAttempt, WorkerState
from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AdmissionChanged,
    CancelAttempt,
    Drain,
    HeldAttempt,
    OutcomeRefused,
    OutcomeReport,
    Refused,
    Resume,
)
from octaskly_wire.vocabulary import Admission, FailureReason, HeldPhase, RefusalCode, RejectionReason

PASSING_REJECTIONS = frozenset({RejectionReason.DRAINING, RejectionReason.NO_FREE_SLOT, RejectionReason.DISK_FULL})
"""The worker is fine and says so: another takes the task at once."""

FAULTY_REJECTIONS = frozenset({RejectionReason.SANDBOX_UNAVAILABLE, RejectionReason.WORKSPACE_FAILED})
"""The worker broke a promise that it made when it registered."""


class Reactor:
    """Turns events into effects over one DispatcherState."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.state = DispatcherState()
        self._next_poll_at = 0.0
        self._ticked_at = 0.0

    # --- start and end -----------------------------------------------------------------------------

    def on_recovered(self, attempts: Iterable[RecoveredAttempt], now: float) -> list[Effect]:
        """Take over what ran when the last dispatcher stopped; every lease starts afresh. The first event of all."""
        self._ticked_at = now
        for recovered in attempts:
            if recovered.worker_id not in self.state.workers:
                self.state.workers[recovered.worker_id] = _absent_worker(recovered, now)
            self.state.start_attempt(
                LiveAttempt(
                    AttemptKey(recovered.task.task_id, recovered.number),
                    recovered.task,
                    recovered.worker_id,
                    is_started=recovered.is_started,
                    is_cancel_requested=recovered.is_cancel_requested,
                )
            )
        return []

    def on_drain(self) -> list[Effect]:
        """Stop giving out work; what runs goes on."""
        self.state.is_draining = True
        return []

    # --- links -------------------------------------------------------------------------------------

    def on_worker_joined(self, joined: WorkerJoined, now: float) -> list[Effect]:
        """Welcome a worker and settle what it holds against what it should hold."""
        effects: list[Effect] = []
        before = self.state.workers.pop(joined.worker_id, None)
        if before and before.link_id is not None:
            effects.append(CloseLink(joined.worker_id, before.link_id))
            before.link_id = None  # Its entry among the free workers is void.
        worker = WorkerState(
            worker_id=joined.worker_id,
            boot_id=joined.boot_id,
            link_id=joined.link_id,
            slots=joined.slots,
            levels=joined.levels,
            allows_network=joined.allows_network,
            memory_mb=joined.memory_mb,
            admission=joined.admission,
            is_draining=joined.is_draining,
            has_begun_drain=joined.has_begun_drain,
            last_heard_at=now,
            task_ids=before.task_ids if before else set(),
            max_limits=joined.max_limits,
            max_timeout_s=joined.max_timeout_s,
        )
        self.state.workers[joined.worker_id] = worker
        self.state.on_service_changed()
        if worker.is_draining:
            effects += worker.tell(Drain())
        effects += self._settle_held(worker, joined.held, before, now)
        return effects + fill_worker(self.state, self.config, worker)

    def _settle_held(
        self, worker: WorkerState, held: Iterable[HeldAttempt], before: WorkerState | None, now: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        has_restarted = before is not None and before.boot_id != worker.boot_id
        held_ids = set()
        for item in held:
            held_ids.add(item.attempt_id)
            attempt = self.state.find_attempt(item.attempt_id, worker.worker_id)
            if attempt is None:
                if item.phase is not HeldPhase.FINISHED:
                    effects += worker.tell(CancelAttempt(attempt_id=item.attempt_id, discard=True))
                continue
            if item.phase is HeldPhase.RUNNING:
                effects += self._mark_started(attempt)
            if item.phase is not HeldPhase.FINISHED and attempt.is_cancel_requested:
                effects += worker.tell(CancelAttempt(attempt_id=item.attempt_id))
        for task_id in sorted(worker.task_ids):
            attempt = self.state.attempts[task_id]
            if attempt.key.attempt_id in held_ids:
                continue
            if before is not None and (has_restarted or attempt.is_started):
                effects += self._lose_with(before, attempt, "the worker came back without it", now)
            else:
                # The order to run it was lost with the old link: nobody is to blame.
                effects += give_back(self.state, attempt, "the order did not reach the worker", 0.0, now)
        return effects

    def on_link_lost(self, worker_id: str, link_id: int) -> list[Effect]:
        """Keep what a cut-off worker runs until its lease and grace are over."""
        worker = self.state.workers.get(worker_id)
        if worker and worker.link_id == link_id:
            worker.link_id = None
            self.state.forget_if_gone(worker)
            self.state.on_service_changed()
        return []

    def on_heartbeat(self, worker_id: str, now: float) -> list[Effect]:
        """Renew the leases of all the worker's attempts."""
        worker = self.state.workers.get(worker_id)
        if worker:
            self.state.hear(worker, now)
        return []

    def on_drain_started(self, worker_id: str) -> list[Effect]:
        """Give a stopping worker nothing more."""
        worker = self.state.workers.get(worker_id)
        if worker:
            worker.has_begun_drain = True
            self.state.on_service_changed()
        return []

    def on_work_paused(self, worker_id: str, detail: str) -> list[Effect]:
        """Give a worker nothing new that says it can take nothing for now; empty detail ends that."""
        worker = self.state.workers.get(worker_id)
        if worker is None:
            return []
        worker.pause_reason = detail
        self.state.on_service_changed()
        return fill_worker(self.state, self.config, worker)

    def on_admission_changed(
        self, worker_id: str, admission: Admission, *, is_draining: bool, detail: str, now: float
    ) -> list[Effect]:
        """Act on a step on the whitelist at once."""
        worker = self.state.workers.get(worker_id)
        if worker is None or (worker.admission, worker.is_draining) == (admission, is_draining):
            return []
        effects: list[Effect] = []
        if worker.is_draining != is_draining:
            worker.is_draining = is_draining
            effects += worker.tell(Drain() if is_draining else Resume())
        if worker.admission is not admission:
            worker.admission = admission
            effects += worker.tell(AdmissionChanged(admission=admission, detail=detail))
            if admission is not Admission.APPROVED:
                effects += self._fence(worker, f"the worker was {admission.value}", now)
            if admission is Admission.REVOKED and worker.link_id is not None:
                refusal = Refused(code=RefusalCode.REVOKED, detail=detail or "revoked", is_final=True)
                effects += [*worker.tell(refusal), CloseLink(worker_id, worker.link_id)]
        self.state.on_service_changed()
        return effects + fill_worker(self.state, self.config, worker)

    def _fence(self, worker: WorkerState, detail: str, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for task_id in sorted(worker.task_ids):
            attempt = self.state.attempts[task_id]
            effects += worker.tell(CancelAttempt(attempt_id=attempt.key.attempt_id, discard=True))
            effects += give_back(self.state, attempt, detail, 0.0, now)
        return effects

    # --- attempts ----------------------------------------------------------------------------------

    def on_attempt_started(self, worker_id: str, attempt_id: str) -> list[Effect]:
        """Note that the command runs, or have it killed when nobody waits for it any more."""
        attempt = self.state.find_attempt(attempt_id, worker_id)
        if attempt is not None:
            return self._mark_started(attempt)
        worker = self.state.workers.get(worker_id)
        return worker.tell(CancelAttempt(attempt_id=attempt_id, discard=True)) if worker else []

    def _mark_started(self, attempt: LiveAttempt) -> list[Effect]:
        if attempt.is_started:
            return []
        attempt.is_started = True
        return [RecordStarted(attempt.key, attempt.worker_id)]

    def on_attempt_finished(
        self, worker_id: str, attempt_id: str, report: OutcomeReport, stdout: bytes, stderr: bytes, now: float
    ) -> list[Effect]:
        """Accept the outcome once; later or foreign ones are kept aside."""
        worker = self.state.workers.get(worker_id)
        if worker is None:
            return []
        attempt = self.state.find_attempt(attempt_id, worker_id)
        acknowledgement = AcknowledgeOutcome(attempt_id=attempt_id)
        report = with_sound_files(report)
        if attempt is None:
            key = AttemptKey.parse(attempt_id)
            if key is None:
                return worker.tell(OutcomeRefused(attempt_id=attempt_id, detail="there is no such attempt"))
            superseded = RecordSuperseded(key, worker_id, report, stdout, stderr)
            return [superseded, *worker.tell(acknowledgement, unless_refused=key)]
        if report.failure_reason is FailureReason.WORKER_LOST:
            ending = self._lose_with(worker, attempt, report.detail, now)
        else:
            retry_delay_s = None
            if report.failure_reason is not None and not attempt.is_cancel_requested:
                retry_delay_s = self.config.retry.after_failure(
                    report.failure_reason, attempt.task.failures + 1, attempt.task.max_retries, jitter(attempt.key)
                )
            # Of a command that was over at once the start is told by its end.
            ending = self._mark_started(attempt) if report.spawn_seconds is not None else []
            end(self.state, attempt, retry_delay_s, now)
            ending.append(RecordOutcome(attempt.key, worker_id, report, stdout, stderr, retry_delay_s))
            if attempt.is_started:
                worker.pace.note(report.duration_ms / 1000, worker.slots, len(worker.task_ids), now)
        return [*ending, *worker.tell(acknowledgement), *fill_worker(self.state, self.config, worker)]

    def has_stock(self, worker_id: str) -> bool:
        """Return whether a worker has so much in hand that it does not wait for the next order."""
        worker = self.state.workers.get(worker_id)
        return worker is not None and worker.has_stock

    def on_outcome_refused(self, worker_id: str, key: AttemptKey) -> list[Effect]:
        """Tell a worker that the store would not take its late outcome."""
        worker = self.state.workers.get(worker_id)
        detail = "another outcome of this attempt is on record, or it was never this worker's"
        return worker.tell(OutcomeRefused(attempt_id=key.attempt_id, detail=detail)) if worker else []

    def on_attempt_rejected(
        self, worker_id: str, attempt_id: str, reason: RejectionReason, detail: str, now: float
    ) -> list[Effect]:
        """Queue again what a worker hands back; its command never ran, so no retry is spent."""
        worker = self.state.workers.get(worker_id)
        attempt = self.state.find_attempt(attempt_id, worker_id)
        if worker is None or attempt is None:
            return []
        if reason is RejectionReason.DRAINING:
            worker.has_begun_drain = True
            self.state.on_service_changed()
        elif reason is RejectionReason.NO_FREE_SLOT:
            worker.pace.begin_anew()
        text = f"{reason.value}: {detail}" if detail else reason.value
        delay_s = 0.0 if reason in PASSING_REJECTIONS else self.config.rejected_delay_s
        effects = give_back(self.state, attempt, text, delay_s, now)
        if reason in FAULTY_REJECTIONS:
            effects += charge(self.state, self.config, worker_id, text, now)
        return effects + fill_worker(self.state, self.config, worker)

    def on_cancel_requested(self, task_id: str, now: float) -> list[Effect]:
        """Have a task's live attempt killed; end it here when its worker cannot be told."""
        attempt = self.state.attempts.get(task_id)
        if attempt is None or attempt.is_cancel_requested:
            return []
        attempt.is_cancel_requested = True
        worker = self.state.workers[attempt.worker_id]
        if worker.link_id is None:
            return give_back(self.state, attempt, "cancelled while its worker was not connected", 0.0, now)
        return worker.tell(CancelAttempt(attempt_id=attempt.key.attempt_id))

    def on_claim_refused(self, key: AttemptKey) -> list[Effect]:
        """Forget an attempt that the store did not grant: the task was changed or taken meanwhile."""
        attempt = self.state.attempts.get(key.task_id)
        if attempt is None or attempt.key != key:
            return []
        worker = self.state.workers[attempt.worker_id]
        self.state.end_attempt(attempt)
        return fill_worker(self.state, self.config, worker)

    def _lose_with(self, worker: WorkerState, attempt: LiveAttempt, detail: str, now: float) -> list[Effect]:
        """End an attempt that went down with its worker: a loss, unless the worker was told to stop and did."""
        if worker.has_begun_drain:
            return give_back(self.state, attempt, detail, 0.0, now)
        return lose(self.state, self.config, attempt, detail, now)

    # --- the queue ---------------------------------------------------------------------------------

    def on_tasks_submitted(self, classes: Iterable[TaskClass], tasks: Sequence[ReadyTask] = ()) -> list[Effect]:
        """Take told tasks (the store refuses a late claim), or look at the queue: what came may stand before others."""
        if tasks and take_told(self.state, set(classes), self._without_live(tasks)):
            return assign_ready(self.state, self.config)
        self.state.classes_to_fetch.update(classes)
        return fetch_head(self.state, self.config)

    def on_ready_fetched(self, classes: Iterable[TaskClass], tasks: Iterable[ReadyTask], limit: int) -> list[Effect]:
        """Take a fresh head of the queue for these classes and give out what fits."""
        self.state.is_fetching = False
        by_class: dict[TaskClass, list[ReadyTask]] = {task_class: [] for task_class in classes}
        for task in tasks:
            by_class[task.task_class].append(task)
        for task_class, ready in by_class.items():
            queue = self.state.queues.setdefault(task_class, ReadyQueue())
            queue.replace(self._without_live(ready), _reach(ready, limit))
        return assign_ready(self.state, self.config)

    def on_fitting_fetched(
        self, task_class: TaskClass, ceiling: Ceiling, tasks: Sequence[ReadyTask], limit: int
    ) -> list[Effect]:
        """Take what was found behind the head of a class, and give out what fits."""
        self.state.is_fetching = False
        queue = self.state.queues.setdefault(task_class, ReadyQueue())
        queue.add_fitting(self._without_live(tasks), ceiling, _reach(tasks, limit))
        return assign_ready(self.state, self.config)

    def _without_live(self, tasks: Iterable[ReadyTask]) -> list[ReadyTask]:
        """Leave out what was given to a worker while the store was read."""
        return [task for task in tasks if task.task_id not in self.state.attempts]

    def on_tick(self, now: float) -> list[Effect]:
        """Let leases run out, wake tasks whose backoff is over, and look at the queue now and then.

        Not to be called while the store cannot be written: the gap until the next call then keeps all leases.
        """
        effects: list[Effect] = []
        if now - self._ticked_at > self.config.stall_s:
            # We stood still, not they: what they sent meanwhile has not been read yet.
            for worker in self.state.workers.values():
                worker.last_heard_at = now
        self._ticked_at = now
        for worker in self.state.silent_for(self.config.lease_s, now):
            if worker.link_id is not None:
                effects.append(CloseLink(worker.worker_id, worker.link_id))
            if now - worker.last_heard_at > self.config.lease_s + self.config.reconnect_grace_s:
                for task_id in sorted(worker.task_ids):
                    attempt = self.state.attempts[task_id]
                    effects += self._lose_with(worker, attempt, "its worker fell silent", now)
        while self.state.wake_ups and self.state.wake_ups[0][0] <= now:
            self.state.classes_to_fetch.add(heapq.heappop(self.state.wake_ups)[1])
        if now >= self._next_poll_at:
            self._next_poll_at = now + self.config.fallback_poll_s
            for task_class in self.state.service().classes:
                queue = self.state.queues.setdefault(task_class, ReadyQueue())
                # Where a worker is free beside a head that is not empty, nothing known of fits it.
                if queue.first() is None or self.state.free.has_any(task_class):
                    self.state.classes_to_fetch.add(task_class)
        return effects + fetch_head(self.state, self.config)


def _reach(tasks: Sequence[ReadyTask], limit: int) -> Order:
    """Return how far an answer of the store reaches: as many tasks as were asked for may not be all."""
    return tasks[-1].queue_order if len(tasks) >= limit else BEHIND_ALL


def _absent_worker(recovered: RecoveredAttempt, now: float) -> WorkerState:
    """Return the stand-in for a worker that owns recovered attempts and has not come back yet."""
    return WorkerState(
        worker_id=recovered.worker_id,
        boot_id=recovered.worker_boot_id,
        link_id=None,
        slots=1,
        levels=frozenset(),
        allows_network=False,
        memory_mb=0,
        admission=Admission.APPROVED,
        is_draining=False,
        has_begun_drain=False,
        last_heard_at=now,
    )
