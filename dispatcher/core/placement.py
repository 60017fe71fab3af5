"""Which worker may run which task, and in plain words why one may not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from octaskly_wire.messages import NO_LIMITS, Limits, UnprovenLevel
from octaskly_wire.vocabulary import Admission, SandboxLevel


@dataclass(frozen=True, slots=True)
class TaskNeeds:
    """What a task asks of the worker that runs it."""

    sandbox: SandboxLevel
    network: bool
    limits: Limits = NO_LIMITS
    timeout_s: int = 1


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that a task on some worker may ask for; None means: as much as it likes."""

    limits: Limits = NO_LIMITS
    timeout_s: int | None = None

    def covers(self, other: Ceiling) -> bool:
        """Return whether all that fits under the other ceiling fits under this one."""
        pairs = [(self.timeout_s, other.timeout_s)]
        pairs += zip(msgspec.structs.astuple(self.limits), msgspec.structs.astuple(other.limits), strict=True)
        return all(mine is None or (its is not None and its <= mine) for mine, its in pairs)


def ceiling_of(memory_mb: int, max_limits: Limits, max_timeout_s: int | None) -> Ceiling:
    """Return the ceiling of a worker with so much memory and these caps."""
    cap_mb = max_limits.memory_mb
    least_mb = memory_mb if cap_mb is None else min(memory_mb, cap_mb)
    return Ceiling(msgspec.structs.replace(max_limits, memory_mb=least_mb), max_timeout_s)


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
    max_limits: Limits = NO_LIMITS
    max_timeout_s: int | None = None
    unproven: Sequence[UnprovenLevel] = ()
    """The levels that it does not offer, as far as it said why."""


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
        return f"does not offer sandbox level {needs.sandbox.value} ({_why_not_offered(needs.sandbox, worker)})"
    if needs.network and not worker.allows_network:
        return "does not allow tasks to use the network"
    memory_mb = needs.limits.memory_mb
    if memory_mb is not None and memory_mb > worker.memory_mb:
        return f"has {worker.memory_mb} MB of memory, the task asks for {memory_mb} MB"
    if worker.max_timeout_s is not None and needs.timeout_s > worker.max_timeout_s:
        return f"allows a time-out of {worker.max_timeout_s} s, the task asks for {needs.timeout_s} s"
    return needs.limits.excess_over(worker.max_limits)


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


def _why_not_offered(level: SandboxLevel, worker: WorkerView) -> str:
    below_floor = {unproven.level for unproven in worker.unproven if unproven.is_below_floor}
    if level in below_floor:
        floor = next((known for known in SandboxLevel if known not in below_floor), level)
        return f"its owner allows nothing below {floor.value}"
    reason = next((unproven.reason for unproven in worker.unproven if unproven.level is level), "")
    if reason:
        return f"cannot prove it: {reason}"
    return f"offers: {', '.join(known.value for known in SandboxLevel if known in worker.levels) or 'none at all'}"
