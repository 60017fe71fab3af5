"""Gives the head of the queue to free workers, and says what more of the queue must be read. Pure.

Two moments need a look. When a slot becomes free, only that worker is filled. When tasks come, free workers are
taken from an index, least busy first. Neither walks over all workers, nor over tasks that nobody can run.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey, ClaimTask, Effect, FetchFitting, FetchReady, ReadyTask, TaskClass
from dispatcher.core.ready_queue import BEHIND_ALL, Entry, Order, ReadyQueue
from dispatcher.core.state import DispatcherState, LiveAttempt, Search, WorkerState
from octaskly_wire.messages import AssignAttempt


def fetch_head(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Ask for what of the queue is wanted and some worker could serve; one look at a time."""
    if state.is_fetching or state.is_draining or not (state.classes_to_fetch or state.searches):
        return []
    service = state.service()
    wanted = state.classes_to_fetch & service.classes
    if not (wanted and state.was_search) and (search := _next_search(state)):
        state.is_fetching = state.was_search = True
        task_class, ceiling = search
        return [FetchFitting(task_class, ceiling, max(config.window_tasks, 2 * service.slots_under[ceiling]))]
    state.was_search = False
    if not wanted:
        return []
    state.classes_to_fetch -= wanted
    state.is_fetching = True
    # While nobody is free a few to go on with are enough: each submission asks for the head anew.
    is_somebody_free = any(state.free.has_any(task_class) for task_class in wanted)
    limit = max(config.window_tasks, 2 * service.slots) if is_somebody_free else config.window_tasks
    return [FetchReady(frozenset(wanted), limit)]


def take_told(state: DispatcherState, classes: set[TaskClass], tasks: Sequence[ReadyTask]) -> bool:
    """Take tasks that have just come as the head of their classes, if nothing else waits there; return whether.

    Not while a look is under way: its answer may lack them, and replaces what is there.
    """
    queues = {task_class: state.queues.get(task_class) for task_class in classes}
    if state.is_fetching or not all(queue and queue.is_over() for queue in queues.values()):
        return False
    for task_class, queue in queues.items():
        if queue:
            queue.begin_with(task for task in tasks if task.task_class == task_class)
    return True


def fill_worker(state: DispatcherState, config: EngineConfig, worker: WorkerState) -> list[Effect]:
    """Give this worker what fits into its free slots, and ask for more where the head ran dry."""
    effects: list[Effect] = []
    if not state.is_draining:
        while worker.is_taking_work:
            task = _take_task_for(state, worker)
            if task is None:
                state.free.offer(worker)
                state.free.compact(worker.capability, len(state.workers))
                break
            effects += _assign(state, task, worker)
    return effects + fetch_head(state, config)


def assign_ready(state: DispatcherState, config: EngineConfig) -> list[Effect]:
    """Give ready tasks to free workers, and ask for more where the head ran dry."""
    effects: list[Effect] = []
    while not state.is_draining and (task_class := _first_servable_class(state)):
        worker = state.free.take_least_busy(task_class)
        if worker is None:
            break
        task = _take_task_for(state, worker)
        if task is None:
            # What it cannot run nobody of its capability can.
            state.free.pass_over(worker)
            continue
        effects += _assign(state, task, worker)
        if worker.is_taking_work:
            state.free.offer(worker)
    state.free.end_round()
    return effects + fetch_head(state, config)


def _first_servable_class(state: DispatcherState) -> TaskClass | None:
    """Return the class whose first task stands before all others that a free worker could run."""
    best: tuple[Order, TaskClass] | None = None
    for task_class, queue in state.queues.items():
        first = queue.first()
        if first and (best is None or first[0] < best[0]) and state.free.has_any(task_class):
            best = (first[0], task_class)
    return best[1] if best else None


def _take_task_for(state: DispatcherState, worker: WorkerState) -> ReadyTask | None:
    best: Entry | None = None
    for task_class in worker.classes:
        queue = state.queues.get(task_class)
        if queue is None:
            state.classes_to_fetch.add(task_class)
            continue
        if queue.is_over():
            continue
        entry = queue.best_under(worker.ceiling)
        if entry is None:
            _look_further(state, task_class, queue, worker)
        elif best is None or entry[0] < best[0]:
            best = entry
    if best is None:
        return None
    queue = state.queues[best[1].task_class]
    queue.remove(best)
    if queue.is_used_up():
        state.classes_to_fetch.add(best[1].task_class)
    return best[1]


def _look_further(state: DispatcherState, task_class: TaskClass, queue: ReadyQueue, worker: WorkerState) -> None:
    """Have more of the queue read for a worker that found nothing, if there may be more."""
    if queue.is_used_up():
        state.classes_to_fetch.add(task_class)
    elif queue.known_until(worker.ceiling) != BEHIND_ALL:
        state.searches.setdefault((task_class, worker.ceiling), False)


def _next_search(state: DispatcherState) -> Search | None:
    """Take the look behind a head whose turn it is.

    It lets a wider one of the same class go first, once: that one finds for both, and finds nothing for both.
    """
    service = state.service()
    while state.searches:
        task_class, ceiling = search = next(iter(state.searches))
        queue = state.queues[task_class]
        is_wanted = task_class in service.classes and ceiling in service.slots_under
        if not is_wanted or queue.is_used_up() or queue.known_until(ceiling) == BEHIND_ALL:
            del state.searches[search]
            continue
        if not state.searches[search]:
            for other in state.searches:
                if other[0] == task_class and other[1] in service.slots_under and other[1].covers(search[1]):
                    search = other
        if search[1] != ceiling:
            state.searches[task_class, ceiling] = True
        del state.searches[search]
        return search
    return None


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
        inputs=list(task.inputs),
        outputs=list(task.outputs),
    )
    return [ClaimTask(key, worker.worker_id), *worker.tell(order, unless_refused=key)]
