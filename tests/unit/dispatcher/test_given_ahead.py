"""Quick workers are given tasks ahead, so that a slot that becomes free is filled without a round trip."""

from __future__ import annotations

import pytest

from dispatcher.core.effects import ClaimTask, RecordGivenUp, RecordStarted
from octaskly_wire.vocabulary import FailureReason, HeldPhase, RejectionReason
from tests.unit.dispatcher.engine import BASIC, Engine, make_report, make_task
from tests.unit.dispatcher.queue import Queue

SHORT_ONES = 24


@pytest.fixture
def engine() -> Engine:
    """Return an engine without workers."""
    return Engine()


def make_quick(engine: Engine, worker_id: str, **join) -> None:
    """Let a worker join and work off enough short tasks."""
    engine.join(worker_id, **join)
    Queue([]).serve(engine)
    for number in range(SHORT_ONES):
        engine.do(engine.reactor.on_tasks_submitted([BASIC]))
        engine.answer_fetch(make_task(f"{worker_id}-{number:02}"))
        claim = engine.take(ClaimTask)
        engine.start(claim.key, claim.worker_id)
        engine.finish(claim.key, worker_id=claim.worker_id)
        Queue([]).serve(engine)
    engine.effects.clear()


def submit(engine: Engine, *names: str, **changes) -> list[tuple[str, str]]:
    """Let tasks come; return which were given out and to whom, in order."""
    queue = Queue(make_task(name, **changes) for name in names)
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    queue.serve(engine)
    return queue.given


def names(count: int) -> list[str]:
    """Return so many names of tasks."""
    return [f"t{number:02}" for number in range(count)]


def test_a_quick_worker_holds_two_more_for_each_slot(engine):
    """And no more than that."""
    make_quick(engine, "w1", slots=2)
    given = submit(engine, *names(20))
    assert given == [(name, "w1") for name in names(6)]


def test_a_worker_of_which_nothing_is_known_gets_its_slots_worth(engine):
    """Its slots may all be taken for hours."""
    engine.join(slots=2)
    assert len(submit(engine, *names(20))) == 2


def test_a_new_link_begins_anew(engine):
    """What comes back may be slower than what left."""
    make_quick(engine, "w1", slots=2)
    engine.join("w1", slots=2)
    assert len(submit(engine, *names(20))) == 2


def test_a_free_slot_goes_before_a_place_ahead(engine):
    """However quick another worker is."""
    make_quick(engine, "w1", slots=2)
    engine.join("w2", slots=3)
    given = submit(engine, *names(20))
    assert sorted(worker_id for _, worker_id in given[:5]) == ["w1"] * 2 + ["w2"] * 3
    assert [worker_id for _, worker_id in given[5:]] == ["w1"] * 4


def test_a_long_attempt_ends_it(engine):
    """What is there already stays; nothing more is given ahead until short ones have outweighed it."""
    make_quick(engine, "w1", slots=2)
    given = submit(engine, *names(6))
    attempts = [engine.reactor.state.attempts[name].key for name, _ in given]
    engine.start(attempts[0])
    engine.finish(attempts[0], make_report(duration_ms=60_000))
    for key in attempts[1:4]:
        engine.start(key)
        engine.finish(key)
    assert submit(engine, "z1", "z2") == []
    engine.finish(attempts[4])
    assert submit(engine, "z1", "z2") == [("z1", "w1")]


def test_what_never_ran_says_nothing_of_the_pace(engine):
    """A cancel of what waits ends it after no time at all."""
    engine.join(slots=1)
    for number in range(SHORT_ONES):
        ((name, _),) = submit(engine, f"t{number:02}")
        engine.finish(engine.reactor.state.attempts[name].key, make_report(FailureReason.CANCELLED, None))
    assert len(submit(engine, *names(20))) == 1


def test_what_waited_too_long_goes_to_another_at_once(engine):
    """Nobody is charged, no retry is spent, and the worker that handed it back is not quick any more."""
    make_quick(engine, "w1", slots=1)
    submit(engine, *names(3))
    engine.join("w2", slots=1)
    engine.effects.clear()
    engine.do(engine.reactor.on_attempt_rejected("w1", "t01.1", RejectionReason.NO_FREE_SLOT, "too slow", engine.now))
    given_up = engine.take(RecordGivenUp)
    assert (given_up.is_loss, given_up.retry_delay_s, given_up.detail) == (False, 0.0, "no_free_slot: too slow")
    assert engine.reactor.state.workers["w1"].places == 1
    queue = Queue([make_task("t01", attempt=1)])
    queue.serve(engine)
    assert queue.given == [("t01", "w2")]


def test_what_waits_at_a_worker_that_comes_back_is_adopted_unstarted(engine):
    """Its task stays queued until the command begins."""
    make_quick(engine, "w1", slots=1)
    submit(engine, *names(2))
    engine.join(slots=1, held={"t00.1": HeldPhase.RUNNING, "t01.1": HeldPhase.WAITING})
    assert engine.take(RecordStarted).key.task_id == "t00"
    assert not [effect for effect in engine.effects if isinstance(effect, RecordStarted | RecordGivenUp)]
