"""Tasks that ask for more than a worker allows stay in the queue and hold up nobody behind them."""

from __future__ import annotations

import random

import pytest

from dispatcher.core.effects import AttemptKey, FetchFitting, FetchReady, RecordGivenUp, SuspendWorker
from dispatcher.core.placement import Ceiling
from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import RejectionReason, SandboxLevel
from tests.unit.dispatcher.engine import BASIC, Engine, make_task
from tests.unit.dispatcher.queue import Queue

HUGE = Limits(memory_mb=65_536)
WINDOW = 4


def tasks(prefix: str, count: int, **changes):
    """Return tasks whose ids sort by prefix, then number."""
    return [make_task(f"{prefix}{number:05}", **changes) for number in range(count)]


def given_to(queue: Queue, worker_id: str) -> list[str]:
    """Return what a worker was given, in order."""
    return [task_id for task_id, taker in queue.given if taker == worker_id]


@pytest.mark.parametrize(
    "unfit",
    [
        {"limits": HUGE},
        {"limits": Limits(processes=65)},
        {"limits": Limits(cpu_seconds=61)},
        {"limits": Limits(open_files=65)},
        {"limits": Limits(disk_mb=65)},
        {"timeout_s": 601},
    ],
    ids=str,
)
def test_a_thousand_tasks_that_nobody_can_run_block_none_behind_them(unfit):
    """All small ones behind them run, in their order; the others stay."""
    engine = Engine(window_tasks=WINDOW)
    caps = Limits(cpu_seconds=60, processes=64, open_files=64, disk_mb=64)
    engine.join(slots=2, max_limits=caps, max_timeout_s=600)
    queue = Queue([*tasks("a", 1000, **unfit), *tasks("b", 30)])
    queue.serve(engine)
    while engine.reactor.state.attempts:
        engine.finish(next(iter(engine.reactor.state.attempts.values())).key)
        queue.serve(engine)
    assert given_to(queue, "w1") == [f"b{number:05}" for number in range(30)]
    assert len(queue.tasks) == 1000


def test_what_waits_for_a_busy_worker_blocks_no_other():
    """The only machine that is large enough is busy: the tasks for it wait, small ones go to the others."""
    engine = Engine(window_tasks=WINDOW)
    engine.join("large", memory_mb=100_000)
    engine.join("small", slots=100)
    queue = Queue([*tasks("a", 50, limits=HUGE), *tasks("b", 20)])
    queue.serve(engine)
    assert given_to(queue, "large") == ["a00000"]
    assert given_to(queue, "small") == [f"b{number:05}" for number in range(20)]


def test_a_look_behind_the_head_takes_no_turn_from_what_stands_before():
    """What was found for a small worker is not given to a large one while older tasks, not read yet, fit it."""
    engine = Engine(window_tasks=WINDOW)
    queue = Queue([*tasks("a", 3 * WINDOW, limits=HUGE), *tasks("b", 2 * WINDOW)])
    engine.join("small", slots=1)
    queue.serve(engine)
    assert given_to(queue, "small") == ["b00000"]
    engine.join("large", memory_mb=100_000, slots=3 * WINDOW)
    queue.serve(engine)
    assert given_to(queue, "large") == [f"a{number:05}" for number in range(3 * WINDOW)]


def test_a_fitting_task_of_higher_priority_goes_first():
    """Behind a blocked head the order is that of the queue."""
    engine = Engine(window_tasks=WINDOW)
    queue = Queue([*tasks("a", 20, limits=HUGE, priority=9), *tasks("b", 20), make_task("c", priority=5)])
    engine.join(slots=1)
    queue.serve(engine)
    assert given_to(queue, "w1") == ["c"]


def test_a_task_that_comes_later_is_found_behind_a_blocked_head():
    """A look that found nothing is no reason to miss what is submitted after it, told or untold."""
    engine = Engine(window_tasks=WINDOW)
    queue = Queue(tasks("a", 20, limits=HUGE))
    engine.join(slots=2)
    queue.serve(engine)
    assert queue.given == []
    queue.tasks += tasks("b", 1)
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    queue.serve(engine)
    assert given_to(queue, "w1") == ["b00000"]
    queue.tasks += tasks("c", 1)  # by another process, which tells nobody
    engine.tick(3)
    queue.serve(engine)
    assert given_to(queue, "w1") == ["b00000", "c00000"]


def test_an_idle_cluster_looks_no_more_often_than_it_must():
    """With nothing to give, one look at the head and one behind it, each time the clock asks."""
    engine = Engine(window_tasks=WINDOW)
    queue = Queue(tasks("a", 1000, limits=HUGE))
    engine.join("w1", memory_mb=500)
    engine.join("w2")
    engine.join("w3")
    queue.serve(engine)
    queue.looks = 0
    engine.tick(0.4)
    queue.serve(engine)
    assert queue.looks <= 2, "three free workers of two kinds ask once: the wider look answers for both"
    engine.tick(1.0)
    queue.serve(engine)
    assert queue.looks <= 2


def test_many_looks_behind_the_head_let_one_at_it_between():
    """A new task of high priority does not wait until each kind of worker has been looked for."""
    engine = Engine(window_tasks=WINDOW)
    for number in range(3):
        engine.join(f"w{number}", max_limits=Limits(processes=number + 1, open_files=10 - number))
    engine.effects.clear()
    engine.reactor.state.is_fetching = False
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.answer_fetch(*tasks("a", 6, limits=HUGE))
    assert len(engine.reactor.state.searches) == 2, "one is under way"
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.answer_search()
    engine.take(FetchReady)


def test_submissions_and_wider_workers_do_not_hold_up_the_look_for_a_small_one():
    """Whatever else is wanted before, in the end somebody looks for what the smallest worker can run."""
    engine = Engine(window_tasks=1)
    engine.join("narrow", memory_mb=100)
    engine.join("wide", memory_mb=1000)
    queue = Queue(
        [
            *tasks("a", 20, limits=HUGE),
            *tasks("b", 100, limits=Limits(memory_mb=500)),
            *tasks("c", 1, limits=Limits(memory_mb=50)),
        ]
    )
    for _ in range(12):
        engine.do(engine.reactor.on_tasks_submitted([BASIC]))
        assert queue.serve_one_look(engine)
        for attempt in [live for live in engine.reactor.state.attempts.values() if live.worker_id == "wide"]:
            engine.finish(attempt.key, worker_id="wide")
    assert given_to(queue, "narrow") == ["c00000"]
    assert len(given_to(queue, "wide")) > 3


@pytest.mark.parametrize("has_let_pass", [False, True])
def test_a_wider_look_goes_first_but_only_once(has_let_pass):
    """It answers for the narrower one as well; a second time it would hold that one up."""
    engine = Engine(window_tasks=WINDOW)
    engine.join("narrow", memory_mb=100)
    engine.join("wide", memory_mb=1000)
    Queue(tasks("a", 20, limits=HUGE)).serve(engine)
    state = engine.reactor.state
    state.queues[BASIC].replace(tasks("a", WINDOW, limits=HUGE), tasks("a", WINDOW)[-1].queue_order)
    narrow, wide = (state.workers[worker_id].ceiling for worker_id in ("narrow", "wide"))
    state.searches = {(BASIC, narrow): has_let_pass, (BASIC, wide): False}
    engine.do(engine.reactor.on_tasks_submitted([]))
    assert engine.answer_search().ceiling == (narrow if has_let_pass else wide)
    left = [effect.ceiling for effect in engine.effects if isinstance(effect, FetchFitting)]
    assert left == ([wide] if has_let_pass else [])


def test_every_kind_of_worker_gets_what_fits_it():
    """Ten kinds of machines and any order of tasks: each task that some machine can run ends up on one that can."""
    for seed in range(20):
        dice = random.Random(seed)
        engine = Engine(window_tasks=2)
        for number in range(10):
            engine.join(
                f"w{number}",
                memory_mb=100 * (number + 1),
                slots=dice.randint(1, 3),
                max_timeout_s=dice.choice((None, 600)),
            )
        asked = {f"t{number:03}": dice.choice((50, 450, 950, 1001)) for number in range(200)}
        queue = Queue(
            make_task(task_id, limits=Limits(memory_mb=mb), timeout_s=dice.choice((60, 3600)))
            for task_id, mb in asked.items()
        )
        queue.serve(engine)
        while engine.reactor.state.attempts:
            engine.finish_any(dice)
            queue.serve(engine)
        assert all(asked[task_id] <= 100 * (int(worker_id[1:]) + 1) for task_id, worker_id in queue.given)
        left = {task.task_id for task in queue.tasks if asked[task.task_id] <= 1000}
        widest = max(
            worker.memory_mb for worker in engine.reactor.state.workers.values() if worker.max_timeout_s is None
        )
        assert all(asked[task_id] > widest for task_id in left)


def test_a_refused_limit_charges_nobody():
    """The task waits a moment and is given again; neither it nor the worker is charged, however often."""
    engine = Engine()
    engine.join()
    for number in range(10):
        engine.now += 10
        engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task(attempt=number)], 10))
        engine.effects.clear()
        attempt_id = AttemptKey("t1", number + 1).attempt_id
        engine.do(
            engine.reactor.on_attempt_rejected("w1", attempt_id, RejectionReason.LIMIT_NOT_ALLOWED, "no", engine.now)
        )
        given_up = engine.take(RecordGivenUp)
        assert (given_up.is_loss, given_up.retry_delay_s) == (False, 5.0)
        assert not [effect for effect in engine.effects if isinstance(effect, SuspendWorker)]


def test_small_tasks_behind_many_unfit_ones_cost_no_walk_over_them(monkeypatch):
    """Tasks that ask for the same are weighed once, however many stand in the head."""
    weighed = []
    admits = Ceiling.admits

    def weigh(ceiling, limits, timeout_s):
        weighed.append(limits)
        return admits(ceiling, limits, timeout_s)

    engine = Engine(window_tasks=20_000)
    engine.join(slots=1)
    head = [*tasks("a", 10_000, limits=HUGE), *tasks("b", 100)]
    engine.do(engine.reactor.on_ready_fetched([BASIC], head, 20_000))
    monkeypatch.setattr(Ceiling, "admits", weigh)
    for _ in range(99):
        engine.finish(next(iter(engine.reactor.state.attempts.values())).key)
    assert len(engine.reactor.state.attempts) == 1
    assert len(weighed) < 10 * 100


def test_capabilities_of_gone_workers_are_forgotten():
    """A machine that comes back with another memory each time leaves no trail."""
    engine = Engine()
    for memory_mb in range(1000, 1100):
        engine.join(memory_mb=memory_mb)
        engine.effects.clear()
    free = engine.reactor.state.free
    assert len(free._heaps) < 40
    assert all(len(kinds) == 1 for kinds in free._by_class.values())
    assert SandboxLevel.BASIC in engine.reactor.state.workers["w1"].levels
