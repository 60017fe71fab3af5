"""Which worker may run which task, and in plain words why one may not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octaskly_wire.vocabulary import Admission, SandboxLevel


@dataclass(frozen=True, slots=True)
class TaskNeeds:
    """What a task asks of the worker that runs it."""

    sandbox: SandboxLevel
    network: bool
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What placement knows of a worker. `live_attempts` counts attempts assigned or running there."""

    worker_id: str
    name: str
    admission: Admission
    is_connected: bool
    is_draining: bool
    levels: frozenset[SandboxLevel]
    allows_network: bool
    memory_mb: int
    slots: int
    live_attempts: int
    pause_reason: str = ""
    """Why it takes nothing new for now by its own word, empty when it does."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task does not run on one worker now; `is_lasting` when waiting alone will not change it."""

    worker_id: str
    worker_name: str
    reason: str
    is_lasting: bool


def lasting_obstacle(needs: TaskNeeds, worker: WorkerView) -> str | None:
    """Return why this worker can never run such a task as things stand, or None if it can."""
    if worker.admission is not Admission.APPROVED:
        return f"is {worker.admission.value}"
    if needs.sandbox not in worker.levels:
        proven = ", ".join(level.value for level in SandboxLevel if level in worker.levels) or "none at all"
        return f"does not offer sandbox level {needs.sandbox.value} (offers: {proven})"
    if needs.network and not worker.allows_network:
        return "does not allow tasks to use the network"
    if needs.memory_mb is not None and needs.memory_mb > worker.memory_mb:
        return f"has {worker.memory_mb} MB of memory, the task asks for {needs.memory_mb} MB"
    return None


def passing_obstacle(worker: WorkerView) -> str | None:
    """Return why this worker takes nothing at the moment, or None if it does."""
    if not worker.is_connected:
        return "is not connected"
    if worker.is_draining:
        return "is draining"
    if worker.pause_reason:
        return f"takes nothing new for now: {worker.pause_reason}"
    if worker.live_attempts >= worker.slots:
        return f"has no free slot ({worker.live_attempts} of {worker.slots} in use)"
    return None


def explain_waiting(needs: TaskNeeds, workers: Sequence[WorkerView]) -> list[Explanation]:
    """Say for each worker why it does not run the task now; empty reason lists mean it is about to."""
    explanations = []
    for worker in workers:
        lasting = lasting_obstacle(needs, worker)
        reason = lasting or passing_obstacle(worker) or "is free; the task is about to be given to a worker"
        explanations.append(Explanation(worker.worker_id, worker.name, reason, is_lasting=lasting is not None))
    return explanations
