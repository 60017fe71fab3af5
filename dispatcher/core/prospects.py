"""Foresees whether any worker will run a task, for many tasks against one look at the workers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from dispatcher.core.placement import Ceiling, TaskNeeds, WorkerView, ceiling_of, lasting_obstacle, lasting_obstacles
from dispatcher.core.waiting import last_seen
from octaskly_wire.vocabulary import Admission, SandboxLevel

MAX_REMEMBERED: Final = 1_024

NOBODY_JOINED: Final = "No worker has joined yet: the task waits until one does."


class Prospects:
    """What the workers could run. Those that can nothing that another cannot are not looked at again."""

    def __init__(self, workers: Sequence[WorkerView]) -> None:
        self._ready = _ablest(worker for worker in workers if _is_ready(worker))
        self._others = _ablest(worker for worker in workers if not _is_ready(worker))
        self._remembered: dict[TaskNeeds, str | None] = {}

    def warning(self, needs: TaskNeeds) -> str | None:
        """Return in one sentence why nothing can run such a task as things stand, None if something can."""
        if needs in self._remembered:
            return self._remembered[needs]
        text = self._look(needs)
        if len(self._remembered) < MAX_REMEMBERED:
            self._remembered[needs] = text
        return text

    def _look(self, needs: TaskNeeds) -> str | None:
        if any(lasting_obstacle(needs, worker) is None for worker in self._ready):
            return None
        if not (self._ready or self._others):
            return NOBODY_JOINED
        absent = [worker for worker in self._others if lasting_obstacle(needs, worker) is None]
        if absent:
            latest = min(absent, key=_absence_s)
            return f"No worker that can run this is connected now: {latest.name} was {last_seen(latest)}."
        return closest(needs, [*self._ready, *self._others])


def closest(needs: TaskNeeds, workers: Sequence[WorkerView]) -> str:
    """Return that none of these workers can run such a task, and what the one lacks that lacks least."""
    found = [(list(lasting_obstacles(needs, worker)), worker) for worker in workers]
    lacks, nearest = min(found, key=lambda pair: (len(pair[0]), -pair[1].memory_mb, pair[1].name))
    return f"No worker can run this as it is. Closest is {nearest.name}: {'; '.join(lacks)}."


def _is_ready(worker: WorkerView) -> bool:
    return worker.is_connected and worker.admission is Admission.APPROVED


def _absence_s(worker: WorkerView) -> float:
    return math.inf if worker.last_seen_ago_s is None else worker.last_seen_ago_s


def _ablest(workers: Iterable[WorkerView]) -> list[WorkerView]:
    """Return the workers without those that can nothing that one of the others cannot; of workers alike, one."""
    kinds: dict[_Kind, WorkerView] = {}
    for worker in sorted(workers, key=_absence_s):
        kinds.setdefault(_Kind.of(worker), worker)
    kept: list[_Kind] = []
    # Whoever covers another stands before it in this order.
    for kind in sorted(kinds, key=_Kind.ability, reverse=True):
        if not any(other.covers(kind) for other in kept):
            kept.append(kind)
    return [kinds[kind] for kind in kept]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What decides which tasks a worker can run; unknown as long as it never registered."""

    admission: Admission
    is_known: bool
    levels: frozenset[SandboxLevel]
    allows_network: bool
    ceiling: Ceiling

    @classmethod
    def of(cls, worker: WorkerView) -> _Kind:
        ceiling = ceiling_of(worker.memory_mb, worker.max_limits, worker.max_timeout_s)
        return cls(worker.admission, worker.slots > 0, worker.levels, worker.allows_network, ceiling)

    def covers(self, other: _Kind) -> bool:
        """Return whether nothing stands against a task here that does not stand against it there."""
        return (
            (self.admission, self.is_known) == (other.admission, other.is_known)
            and self.levels >= other.levels
            and self.allows_network >= other.allows_network
            and self.ceiling.covers(other.ceiling)
        )

    def ability(self) -> tuple[float, ...]:
        """Return numbers that are all at least as high as those of whatever it covers."""
        caps = (*msgspec.structs.astuple(self.ceiling.limits), self.ceiling.timeout_s)
        return (len(self.levels), self.allows_network, *(math.inf if cap is None else cap for cap in caps))
