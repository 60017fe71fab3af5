"""Workers with a free slot, least busy first, found without looking at the others. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from dispatcher.core.effects import TaskClass
from octaskly_wire.vocabulary import SandboxLevel

if TYPE_CHECKING:
    from dispatcher.core.state import WorkerState

Capability = tuple[frozenset[SandboxLevel], bool]
"""Levels and network: workers alike in both can run the same classes of tasks."""


def classes_of(capability: Capability) -> list[TaskClass]:
    """Return the classes of tasks that such a worker can run."""
    levels, allows_network = capability
    networks = (False, True) if allows_network else (False,)
    return [(level, network) for level in SandboxLevel if level in levels for network in networks]


class FreeWorkers:
    """A heap for each capability. Entries are not removed when they grow stale but skipped when they surface."""

    def __init__(self) -> None:
        self._heaps: dict[Capability, list[tuple[float, int, WorkerState]]] = {}
        self._by_class: dict[TaskClass, list[Capability]] = {}
        self._marks = 0

    def offer(self, worker: WorkerState) -> None:
        """Enter a worker at its present load; call after each change that leaves it with a free slot."""
        heap = self._heaps.get(worker.capability)
        if heap is None:
            heap = self._heaps[worker.capability] = []
            for task_class in classes_of(worker.capability):
                self._by_class.setdefault(task_class, []).append(worker.capability)
        self._marks += 1
        worker.free_mark = self._marks
        heapq.heappush(heap, (worker.load, self._marks, worker))

    def take_least_busy(self, task_class: TaskClass) -> WorkerState | None:
        """Remove and return the least busy free worker that can run this class."""
        best: list[tuple[float, int, WorkerState]] | None = None
        for capability in self._by_class.get(task_class, ()):
            heap = self._without_stale_top(capability)
            if heap and (best is None or heap[0] < best[0]):
                best = heap
        return heapq.heappop(best)[2] if best else None

    def has_any(self, task_class: TaskClass) -> bool:
        """Return whether a free worker could run this class."""
        return any(self._without_stale_top(capability) for capability in self._by_class.get(task_class, ()))

    def compact(self, worker_count: int) -> None:
        """Drop stale entries when they outnumber the workers by far; costs nothing on average."""
        for capability, heap in self._heaps.items():
            if len(heap) > 64 + 4 * worker_count:
                fresh = [entry for entry in heap if _is_valid(entry)]
                heapq.heapify(fresh)
                self._heaps[capability] = fresh

    def _without_stale_top(self, capability: Capability) -> list[tuple[float, int, WorkerState]]:
        heap = self._heaps[capability]
        while heap and not _is_valid(heap[0]):
            heapq.heappop(heap)
        return heap


def _is_valid(entry: tuple[float, int, WorkerState]) -> bool:
    _, mark, worker = entry
    return worker.free_mark == mark and worker.is_taking_work
