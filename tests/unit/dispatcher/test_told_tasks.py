"""Tasks that an idle engine is told of need no look at the queue."""

from __future__ import annotations

import pytest

from dispatcher.core.effects import ClaimTask, FetchReady
from octaskly_wire.messages import AssignAttempt
from tests.unit.dispatcher.engine import BASIC, Engine, make_task


@pytest.fixture
def engine() -> Engine:
    """Return an engine with a worker of one slot that knows that nothing is queued."""
    engine = Engine()
    engine.join(slots=1)
    engine.answer_fetch()
    engine.effects.clear()
    return engine


def tell(engine: Engine, *names: str) -> None:
    """Let tasks come that are told."""
    engine.do(engine.reactor.on_tasks_submitted([BASIC], [make_task(name) for name in names]))


def test_a_told_task_is_given_out_at_once(engine):
    """Its claim is the first that the store hears of it, and the worker's order waits for that."""
    tell(engine, "t1")
    claim = engine.take(ClaimTask)
    assert claim.key.attempt_id == engine.take_message(AssignAttempt).attempt_id == "t1.1"
    engine.assert_nothing_left()


def test_where_others_wait_the_queue_is_looked_at(engine):
    """What comes may not be the next one, and what waits in memory stays within bounds."""
    tell(engine, "t1", "t2")
    engine.effects.clear()
    tell(engine, "t3")
    assert BASIC in engine.take(FetchReady).classes
    engine.assert_nothing_left()


def test_while_a_look_is_under_way_another_follows(engine):
    """The answer may be from before what is told."""
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    tell(engine, "t1")
    engine.answer_fetch()
    assert BASIC in engine.take(FetchReady).classes
    engine.assert_nothing_left()


def test_a_task_that_a_look_found_first_is_not_given_twice(engine):
    """It may be told late."""
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.answer_fetch(make_task("t1"))
    engine.effects.clear()
    tell(engine, "t1")
    engine.assert_nothing_left()


def test_a_told_task_that_is_over_is_refused_by_the_store(engine):
    """Then the slot is free for the next one."""
    tell(engine, "t1")
    refused = engine.take(ClaimTask).key
    engine.effects.clear()
    engine.do(engine.reactor.on_claim_refused(refused))
    engine.effects.clear()
    tell(engine, "t2")
    assert engine.take(ClaimTask).key.task_id == "t2"
