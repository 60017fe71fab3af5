"""Says why a task waits: what stands against each worker, those first that could run it soonest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from dispatcher.core.placement import TaskNeeds, WorkerView, lasting_obstacle
from octaskly_wire.plain_words import memory_pair, span
from octaskly_wire.vocabulary import Admission


class Soonness(IntEnum):
    """How soon a worker could run a task, soonest first."""

    FREE = 0
    BUSY = 1
    PAUSED = 2
    DRAINING = 3
    AWAY = 4
    PENDING = 5
    """Somebody has to approve it."""
    UNFIT = 6


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task does not run on one worker now; `is_lasting` when waiting alone will not change it."""

    worker_id: str
    worker_name: str
    reason: str
    soonness: Soonness

    @property
    def is_lasting(self) -> bool:
        """Return whether somebody has to do something before the worker could run it."""
        return self.soonness >= Soonness.PENDING


def explain_waiting(needs: TaskNeeds, workers: Sequence[WorkerView]) -> list[Explanation]:
    """Say for each worker why it does not run the task now, beginning with those that could soonest."""
    explained = [(_explain(needs, worker), worker) for worker in workers]
    explained.sort(key=lambda pair: (pair[0].soonness, _behind_alike(*pair), pair[0].worker_name, pair[0].worker_id))
    return [explanation for explanation, _ in explained]


def _behind_alike(explanation: Explanation, worker: WorkerView) -> float:
    """Return what orders workers of the same soonness: of many slots one comes free sooner."""
    if explanation.soonness is Soonness.AWAY:
        return float("inf") if worker.last_seen_ago_s is None else worker.last_seen_ago_s
    return -worker.slots


def _explain(needs: TaskNeeds, worker: WorkerView) -> Explanation:
    soonness, reason = _passing_reason(needs, worker)
    if lasting := lasting_obstacle(needs, worker):
        reason = lasting
        soonness = Soonness.PENDING if worker.admission is Admission.PENDING else Soonness.UNFIT
    return Explanation(worker.worker_id, worker.name, reason, soonness)


def _passing_reason(needs: TaskNeeds, worker: WorkerView) -> tuple[Soonness, str]:
    if not worker.is_connected:
        return Soonness.AWAY, f"not connected, {last_seen(worker)}"
    if worker.is_draining:
        return Soonness.DRAINING, "draining"
    if worker.pause_reason:
        return Soonness.PAUSED, f"paused: {worker.pause_reason}"
    if worker.live_attempts >= worker.slots:
        busy = f"all {worker.slots} slots busy" if worker.slots > 1 else "its only slot is busy"
        return Soonness.BUSY, busy + _memory_remark(needs, worker)
    return Soonness.FREE, "free, about to be given a task" + _memory_remark(needs, worker)


def last_seen(worker: WorkerView) -> str:
    """Return when the worker was there last."""
    return "never seen" if worker.last_seen_ago_s is None else f"last seen {span(worker.last_seen_ago_s)} ago"


def _memory_remark(needs: TaskNeeds, worker: WorkerView) -> str:
    """Return what is to be known of a machine whose memory is taken now; it does not keep the task from starting."""
    asked_mb, free_mb = needs.limits.memory_mb, worker.free_memory_mb
    if asked_mb is None or free_mb is None or asked_mb <= free_mb:
        return ""
    asked, free = memory_pair(asked_mb, free_mb)
    return f" ({free} of its memory free now, the task may use {asked})"
