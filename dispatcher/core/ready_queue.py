"""The head of the queue for one class of tasks, and how far into the queue it reaches. Pure.

The rest of the queue stays in the database. The head is its beginning, up to some place; behind that stand tasks
that were looked for because the head holds nothing small enough for a free worker. Of those the head has, for that
worker, all up to a place further back. A worker is given nothing beyond the place that is known for it: before
what lies there another task, read by nobody yet, may stand.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from typing import Final

from dispatcher.core.effects import ReadyTask
from dispatcher.core.placement import Ceiling
from octaskly_wire.messages import Limits

Order = tuple[float, str]
"""A place in the queue; unique, so that of entries only this is compared."""

Entry = tuple[Order, ReadyTask]

Demand = tuple[Limits, int]
"""What a task asks for beside its class: limits and time-out."""

BEFORE_ALL: Final[Order] = (-math.inf, "")
BEHIND_ALL: Final[Order] = (math.inf, "")


class ReadyQueue:
    """Ready tasks in one heap for each demand, so that what does not fit is passed over at one look."""

    def __init__(self) -> None:
        self._heaps: dict[Demand, list[Entry]] = {}
        self._tops: list[tuple[Order, Demand]] = []
        """A heap of the heaps by their first task; an entry that is out of date is skipped when it surfaces."""
        self._known_until: Order = BEFORE_ALL
        self._searched: dict[Ceiling, Order] = {}

    # --- what the store said -----------------------------------------------------------------------

    def replace(self, tasks: Iterable[ReadyTask], known_until: Order) -> None:
        """Take a fresh head, complete up to a place, instead of all that is there."""
        self._heaps.clear()
        self._searched.clear()
        self._known_until = known_until
        self._add(tasks)

    def add_fitting(self, tasks: Iterable[ReadyTask], ceiling: Ceiling, known_until: Order) -> None:
        """Take also what was found under a ceiling, complete up to a place."""
        present = {task.task_id for task in self}
        self._searched[ceiling] = known_until
        self._add(task for task in tasks if task.task_id not in present)

    def begin_with(self, tasks: Iterable[ReadyTask]) -> None:
        """Take tasks that have just come, where nothing was left: then they are all there is."""
        self._add(tasks)

    def _add(self, tasks: Iterable[ReadyTask]) -> None:
        for task in tasks:
            self._heaps.setdefault((task.limits, task.timeout_s), []).append((task.queue_order, task))
        for heap in self._heaps.values():
            heapq.heapify(heap)
        self._tops = [(heap[0][0], demand) for demand, heap in self._heaps.items()]
        heapq.heapify(self._tops)

    # --- what is there -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[ReadyTask]:
        """Yield all tasks, in no order."""
        return (task for heap in self._heaps.values() for _, task in heap)

    def first(self) -> Entry | None:
        """Return what stands before all others."""
        while self._tops:
            order, demand = self._tops[0]
            heap = self._heaps.get(demand)
            if heap and heap[0][0] == order:
                return heap[0]
            heapq.heappop(self._tops)
        return None

    def is_over(self) -> bool:
        """Return whether nothing is left of the whole queue, as far as is known."""
        return not self._heaps and self._known_until == BEHIND_ALL

    def is_used_up(self) -> bool:
        """Return whether more of the queue must be read, for whatever worker."""
        if self._known_until == BEHIND_ALL:
            return False
        first = self.first()
        return first is None or first[0] > self._known_until

    def known_until(self, ceiling: Ceiling) -> Order:
        """Return the place up to which all that fits under the ceiling is here."""
        if not self._searched:
            return self._known_until
        wider = (place for searched, place in self._searched.items() if searched.covers(ceiling))
        return max(self._known_until, max(wider, default=BEFORE_ALL))

    def best_under(self, ceiling: Ceiling) -> Entry | None:
        """Return the first task that a worker with this ceiling can run, if it can run tasks of this class."""
        best = self.first()
        if best is None:
            return None
        if not ceiling.admits(best[1].limits, best[1].timeout_s):
            best = None
            for demand, heap in self._heaps.items():
                if (best is None or heap[0][0] < best[0]) and ceiling.admits(*demand):
                    best = heap[0]
        return best if best is not None and best[0] <= self.known_until(ceiling) else None

    def remove(self, entry: Entry) -> None:
        """Take out an entry that `first` or `best_under` gave."""
        demand = (entry[1].limits, entry[1].timeout_s)
        heap = self._heaps[demand]
        heapq.heappop(heap)
        if heap:
            heapq.heappush(self._tops, (heap[0][0], demand))
        else:
            del self._heaps[demand]
