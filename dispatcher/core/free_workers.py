"""Workers with a free slot, least busy first, found without looking at the others. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from dispatcher.core.effects import TaskClass
from dispatcher.core.placement import Ceiling
from octaskly_wire.vocabulary import SandboxLevel

MIN_TIDY: Final = 16
"""Capabilities that are kept without a question."""

if TYPE_CHECKING:
    from dispatcher.core.state import WorkerState

Capability = tuple[frozenset[SandboxLevel], bool, Ceiling]
"""Levels, network and ceiling: workers alike in all three can run the same tasks."""

Kind = tuple[frozenset[SandboxLevel], bool]
"""Levels and network: workers alike in both can run the same classes of tasks, limits aside."""

Entry = tuple[float, int, "WorkerState"]
"""A worker behind its load and the mark that says whether the entry is its latest."""


def classes_of(capability: Capability) -> list[TaskClass]:
    """Return the classes of tasks that such a worker can run, as far as they fit under its ceiling."""
    levels, allows_network, _ = capability
    networks = (False, True) if allows_network else (False,)
    return [(level, network) for level in SandboxLevel if level in levels for network in networks]


class FreeWorkers:
    """A heap for each capability, and over those of the same kind one of their first workers.

    Entries are not removed when they grow stale but skipped when they surface.
    """

    def __init__(self) -> None:
        self._heaps: dict[Capability, list[Entry]] = {}
        self._firsts: dict[Kind, list[Entry]] = {}
        """The first entry of each heap is in here, and some that were."""
        self._shown: set[int] = set()
        """The marks of those, so that none is in there twice."""
        self._by_class: dict[TaskClass, list[Kind]] = {}
        self._passed: dict[Capability, WorkerState] = {}
        self._marks = 0
        self._tidy_at = MIN_TIDY

    def offer(self, worker: WorkerState) -> None:
        """Enter a worker at its present load; call after each change that leaves it with a free slot."""
        heap = self._heaps.get(worker.capability)
        if heap is None:
            heap = self._begin(worker.capability)
        self._marks += 1
        worker.free_mark = self._marks
        heapq.heappush(heap, (worker.load, self._marks, worker))
        self._show_first(worker.capability)

    def take_least_busy(self, task_class: TaskClass) -> WorkerState | None:
        """Remove and return the least busy free worker that can run this class and was not passed over."""
        best: Entry | None = None
        for kind in self._by_class.get(task_class, ()):
            first = self._first(kind)
            if first and (best is None or first < best):
                best = first
        if best is None:
            return None
        worker = best[2]
        self._drop_first(_kind_of(worker.capability))
        heapq.heappop(self._heaps[worker.capability])
        self._show_first(worker.capability)
        return worker

    def has_any(self, task_class: TaskClass) -> bool:
        """Return whether a free worker, not passed over, could run this class."""
        return any(self._first(kind) for kind in self._by_class.get(task_class, ()))

    def pass_over(self, worker: WorkerState) -> None:
        """Keep a worker that was taken, and all of its capability, out of sight until `end_round`."""
        self._passed[worker.capability] = worker

    def end_round(self) -> None:
        """Enter again what was passed over."""
        passed, self._passed = self._passed, {}
        for worker in passed.values():
            self.offer(worker)

    def compact(self, capability: Capability, worker_count: int) -> None:
        """Drop stale entries when they outnumber the workers by far; costs nothing on average."""
        most = 64 + 4 * worker_count
        if len(self._heaps[capability]) > most:
            fresh = [entry for entry in self._heaps[capability] if _is_valid(entry)]
            heapq.heapify(fresh)
            self._heaps[capability] = fresh
        if len(self._shown) > most:
            self._show_anew()

    # --- pieces ------------------------------------------------------------------------------------

    def _begin(self, capability: Capability) -> list[Entry]:
        """Begin a heap. Now and then forget those of capabilities that no free worker has."""
        if len(self._heaps) >= self._tidy_at:
            self._heaps = {known: heap for known, heap in self._heaps.items() if self._without_stale(known)}
            self._tidy_at = max(MIN_TIDY, 2 * len(self._heaps))
        kind = _kind_of(capability)
        if kind not in self._firsts:
            self._firsts[kind] = []
            for task_class in classes_of(capability):
                self._by_class.setdefault(task_class, []).append(kind)
        return self._heaps.setdefault(capability, [])

    def _first(self, kind: Kind) -> Entry | None:
        """Return the least busy worker of a kind that was not passed over."""
        firsts = self._firsts[kind]
        while firsts:
            entry = firsts[0]
            capability = entry[2].capability
            heap = self._without_stale(capability)
            if heap and heap[0] is entry and capability not in self._passed:
                return entry
            self._drop_first(kind)
            self._show_first(capability)
        return None

    def _show_first(self, capability: Capability) -> None:
        """Enter the first of a heap among those of its kind."""
        heap = self._without_stale(capability)
        if heap and heap[0][1] not in self._shown and capability not in self._passed:
            self._shown.add(heap[0][1])
            heapq.heappush(self._firsts[_kind_of(capability)], heap[0])

    def _drop_first(self, kind: Kind) -> None:
        self._shown.discard(heapq.heappop(self._firsts[kind])[1])

    def _show_anew(self) -> None:
        self._shown.clear()
        for firsts in self._firsts.values():
            firsts.clear()
        for capability in self._heaps:
            self._show_first(capability)

    def _without_stale(self, capability: Capability) -> list[Entry]:
        heap = self._heaps.get(capability, [])
        while heap and not _is_valid(heap[0]):
            heapq.heappop(heap)
        return heap


def _kind_of(capability: Capability) -> Kind:
    return capability[:2]


def _is_valid(entry: Entry) -> bool:
    _, mark, worker = entry
    return worker.free_mark == mark and worker.is_taking_work
