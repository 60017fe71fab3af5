"""Which worker may run which task, and in plain words why one may not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from octaskly_wire.messages import NO_LIMITS, Limits, UnprovenLevel
from octaskly_wire.plain_words import memory_pair
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

    def admits(self, limits: Limits, timeout_s: int) -> bool:
        """Return whether a task with these limits and this time-out fits under it."""
        if self.timeout_s is not None and timeout_s > self.timeout_s:
            return False
        if limits == NO_LIMITS:
            return True
        pairs = zip(msgspec.structs.astuple(limits), msgspec.structs.astuple(self.limits), strict=True)
        return all(asked is None or most is None or asked <= most for asked, most in pairs)


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
    admission_reason: str = ""
    """Why it was suspended, as far as somebody said so."""
    last_seen_ago_s: float | None = None
    """None when it was never connected."""
    free_memory_mb: int | None = None
    """By its latest reading, None while nothing is known. No task is placed by it."""


def lasting_obstacle(needs: TaskNeeds, worker: WorkerView) -> str | None:
    """Return why this worker can never run such a task as things stand, or None if it can."""
    return next(lasting_obstacles(needs, worker), None)


def lasting_obstacles(needs: TaskNeeds, worker: WorkerView) -> Iterator[str]:
    """Yield all that stands against running such a task on this worker, however long it waits."""
    if worker.admission is Admission.PENDING:
        yield "waits for approval"
    elif worker.admission is not Admission.APPROVED:
        said = worker.admission_reason
        yield f"{worker.admission.value}: {said}" if said else worker.admission.value
    if not worker.slots:
        return  # It joined and never connected: what it can do is not known yet.
    if needs.sandbox not in worker.levels:
        yield _why_not_offered(needs.sandbox, worker)
    if needs.network and not worker.allows_network:
        yield "does not let tasks use the network"
    memory_mb = needs.limits.memory_mb
    if memory_mb is not None and memory_mb > worker.memory_mb:
        asked, there = memory_pair(memory_mb, worker.memory_mb)
        yield f"needs {asked} of memory, has {there}"
    if worker.max_timeout_s is not None and needs.timeout_s > worker.max_timeout_s:
        yield f"allows a time-out of at most {worker.max_timeout_s} s, needs {needs.timeout_s} s"
    if excess := needs.limits.excess_over(worker.max_limits):
        yield excess


def _why_not_offered(level: SandboxLevel, worker: WorkerView) -> str:
    below_floor = {unproven.level for unproven in worker.unproven if unproven.is_below_floor}
    if level in below_floor:
        floor = next((known for known in SandboxLevel if known not in below_floor), level)
        return f"does not offer {level.value}: its owner allows nothing below {floor.value}"
    reason = next((unproven.reason for unproven in worker.unproven if unproven.level is level), "")
    if reason:
        return f"cannot prove {level.value}: {reason}"
    offered = ", ".join(known.value for known in SandboxLevel if known in worker.levels)
    return f"does not offer {level.value}, only {offered}" if offered else f"does not offer {level.value}"
