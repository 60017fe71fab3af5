"""Gives the head of the queue to free workers, and says what more of the queue must be read. Pure.

Two moments need a look. When a slot becomes free, only that worker is filled. When tasks come, free workers are
taken from an index, least busy first. Neither walks over all workers.
"""

from __future__ import annotations

import heapq

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey, ClaimTask, Effect, FetchReady, ReadyTask, TaskClass
from dispatcher.core.free_workers import classes_of
from dispatcher.core.placement import WorkerView, lasting_obstacle
from dispatcher.core.state import DispatcherState, Entry, LiveAttempt, ReadyQueue, WorkerState
from octaskly_wire.messages import AssignAttempt


def fetch_head(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Ask for the heads of the queues that are wanted and that some worker could serve; one look at a time."""
    if state.is_fetching or state.is_draining or not state.classes_to_fetch:
        return []
    servable, slots = state.service()
    wanted = state.classes_to_fetch & servable
    state.classes_to_fetch -= wanted
    if not wanted:
        return []
    state.is_fetching = True
    return [FetchReady(frozenset(wanted), max(config.window_tasks, 2 * slots))]


def fill_worker(state: DispatcherState, config: EngineConfig, worker: WorkerState) -> list[Effect]:
    """Give this worker what fits into its free slots, and ask for more where the head ran dry."""
    effects: list[Effect] = []
    if not state.is_draining:
        while worker.is_taking_work and (task := _take_task_for(state, worker)):
            effects += _assign(state, task, worker)
        if worker.is_taking_work:
            state.free.offer(worker)
            state.free.compact(len(state.workers))
    return effects + fetch_head(state, config)


def assign_ready(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Give ready tasks to free workers, and ask for more where the head ran dry."""
    effects: list[Effect] = []
    passed_over: list[WorkerState] = []
    while not state.is_draining and (task_class := _first_servable_class(state)):
        worker = state.free.take_least_busy(task_class)
        task = _take_task_for(state, worker) if worker else None
        if worker is None:
            break
        if task is None:
            # Nothing in the head fits its memory; the next one may be larger.
            passed_over.append(worker)
            continue
        effects += _assign(state, task, worker)
        if worker.is_taking_work:
            state.free.offer(worker)
    for worker in passed_over:
        state.free.offer(worker)
    return effects + fetch_head(state, config)


def _first_servable_class(state: DispatcherState) -> TaskClass | None:
    """Return the class whose first task stands before all others that a free worker could run."""
    best: tuple[tuple[int, str], TaskClass] | None = None
    for task_class, queue in state.queues.items():
        if queue.heap and (best is None or queue.heap[0][0] < best[0]) and state.free.has_any(task_class):
            best = (queue.heap[0][0], task_class)
    return best[1] if best else None


def _take_task_for(state: DispatcherState, worker: WorkerState) -> ReadyTask | None:
    view: WorkerView | None = None
    best: Entry | None = None
    for task_class in classes_of(worker.capability):
        queue = state.queues.setdefault(task_class, ReadyQueue())
        if not queue.heap:
            if queue.has_more:
                state.classes_to_fetch.add(task_class)
            continue
        view = view or worker.view()
        entry = _first_fitting(queue.heap, view)
        if entry and (best is None or entry[0] < best[0]):
            best = entry
    if best is None:
        return None
    queue = state.queues[best[1].task_class]
    if queue.heap[0] is best:
        heapq.heappop(queue.heap)
    else:
        queue.heap.remove(best)
        heapq.heapify(queue.heap)
    if not queue.heap and queue.has_more:
        state.classes_to_fetch.add(best[1].task_class)
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
    return [ClaimTask(key, worker.worker_id), *worker.tell(order, unless_refused=key)]


def _first_fitting(heap: list[Entry], view: WorkerView) -> Entry | None:
    """Return the first task this worker can run; beyond the class only memory can stand against it."""
    if lasting_obstacle(heap[0][1].needs, view) is None:
        return heap[0]
    return min((entry for entry in heap if lasting_obstacle(entry[1].needs, view) is None), default=None)
