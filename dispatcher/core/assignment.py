"""Gives the head of the queue to free workers, and says what more of the queue must be read. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey, ClaimTask, Effect, FetchReady, ReadyTask, Send, TaskClass
from dispatcher.core.placement import WorkerView, lasting_obstacle
from dispatcher.core.state import DispatcherState, Entry, LiveAttempt, ReadyQueue, WorkerState
from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import Admission


def servable_classes(state: DispatcherState) -> set[TaskClass]:
    """Return the classes that some worker could be given now."""
    return {task_class for worker in state.workers.values() for task_class in _classes_of(worker)}


def fetch_head(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Ask for the heads of the queues that are wanted and that some worker could serve; one look at a time."""
    if state.is_fetching or state.is_draining:
        return []
    wanted = state.classes_to_fetch & servable_classes(state)
    state.classes_to_fetch -= wanted
    if not wanted:
        return []
    state.is_fetching = True
    slots = sum(worker.slots for worker in state.workers.values())
    return [FetchReady(frozenset(wanted), max(config.window_tasks, 2 * slots))]


def assign_ready(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Give ready tasks to free workers, the least busy first, and ask for more where the head ran dry."""
    if state.is_draining:
        return []
    effects: list[Effect] = []
    free = [(_load(worker), worker.worker_id) for worker in state.workers.values() if worker.is_taking_work]
    heapq.heapify(free)
    while free:
        worker = state.workers[heapq.heappop(free)[1]]
        task = _take_task_for(state, worker)
        if task is None:
            continue
        effects += _assign(state, task, worker)
        if worker.is_taking_work:
            heapq.heappush(free, (_load(worker), worker.worker_id))
    return effects + fetch_head(state, config)


def _take_task_for(state: DispatcherState, worker: WorkerState) -> ReadyTask | None:
    view = worker.view()
    best: Entry | None = None
    for task_class in _classes_of(worker):
        queue = state.queues.setdefault(task_class, ReadyQueue())
        if not queue.heap and queue.has_more:
            state.classes_to_fetch.add(task_class)
        entry = _first_fitting(queue.heap, view)
        if entry and (best is None or entry[0] < best[0]):
            best = entry
    if best is None:
        return None
    heap = state.queues[best[1].task_class].heap
    if heap[0] is best:
        heapq.heappop(heap)
    else:
        heap.remove(best)
        heapq.heapify(heap)
    return best[1]


def _assign(state: DispatcherState, task: ReadyTask, worker: WorkerState) -> list[Effect]:
    key = AttemptKey(task.task_id, task.attempt + 1)
    state.start_attempt(LiveAttempt(key, task, worker.worker_id))
    order = AssignAttempt(
        attempt_id=key.attempt_id,
        task_id=task.task_id,
        command=task.command,
        timeout_s=task.timeout_s,
        sandbox=task.sandbox,
        allows_network=task.network,
        env=task.env,
        limits=task.limits,
    )
    return [ClaimTask(key, worker.worker_id), Send(worker.worker_id, order, claim=key)]


def _classes_of(worker: WorkerState) -> Iterable[TaskClass]:
    if worker.link_id is None or worker.admission is not Admission.APPROVED or worker.is_draining:
        return
    for level in worker.levels:
        yield (level, False)
        if worker.allows_network:
            yield (level, True)


def _first_fitting(heap: list[Entry], view: WorkerView) -> Entry | None:
    """Return the first task this worker can run; beyond the class only memory can stand against it."""
    if not heap or lasting_obstacle(heap[0][1].needs, view) is None:
        return heap[0] if heap else None
    return min((entry for entry in heap if lasting_obstacle(entry[1].needs, view) is None), default=None)


def _load(worker: WorkerState) -> float:
    return len(worker.task_ids) / worker.slots
