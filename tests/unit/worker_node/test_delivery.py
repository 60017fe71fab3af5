"""An outcome with output files: its contents go first, whatever becomes of the link, and it never hangs for them."""

from __future__ import annotations

import msgspec
import pytest

from octaskly_wire.messages import CancelAttempt, OutputFile, Register
from octaskly_wire.vocabulary import FailureReason
from tests.unit.worker_node.test_reactor import DONE, WELCOME, Play
from worker_node.core import delivery, reactor, spooling
from worker_node.core.effects import (
    ForgetOutcome,
    ReleaseContents,
    Send,
    SendOutcome,
    SpoolOutcome,
    StopCommand,
    StoreContents,
)

FILES = [OutputFile("a", "a" * 64, 1), OutputFile("b", "b" * 64, 2), OutputFile("again", "a" * 64, 1)]
WITH_FILES = msgspec.structs.replace(DONE, report=msgspec.structs.replace(DONE.report, outputs=FILES))
STORE = StoreContents("t1.1", (FILES[2], FILES[1]))
"""Equal contents are sent once."""


@pytest.fixture
def play():
    """Return a linked worker that runs t1.1."""
    play = Play(slots=2)
    play.assign(1)
    play.taken_starts()
    return play


def finish(play, outcome=WITH_FILES):
    """Let the command end."""
    play.do(reactor.on_process_exited, "t1.1", outcome, now=0.0)


def link_up(play):
    """Connect, and pass over the word that all begins with."""
    play.do(reactor.on_link_up, WELCOME, now=1.0)
    assert isinstance(play.take().message, Register)


def test_contents_go_ahead_of_their_outcome(play):
    """The outcome is sent when the dispatcher has them all, and acknowledged they are let go."""
    finish(play)
    assert play.take() == STORE
    play.do(delivery.on_contents_stored, "t1.1")
    assert play.take() == SendOutcome("t1.1", WITH_FILES)
    play.do(reactor.on_acknowledged, "t1.1")
    assert play.take() == ReleaseContents("t1.1")


def test_an_outcome_that_waits_for_its_contents_is_held_and_spooled(play):
    """The dispatcher hears of it with each heartbeat, and it outlives this process."""
    finish(play)
    play.take()
    assert [held.attempt_id for held in play.state.held()] == ["t1.1"]
    play.do(spooling.on_spool_due, now=1.0)
    assert play.take() == SpoolOutcome("t1.1", WITH_FILES)
    assert not play.state.can_leave


def test_without_a_link_nothing_is_sent_and_the_next_one_begins_with_the_contents(play):
    """Also when they were stored before: the dispatcher may be another one by now."""
    finish(play)
    play.take()
    play.do(delivery.on_contents_stored, "t1.1")
    play.take()
    play.do(reactor.on_link_lost)
    assert play.take() == SpoolOutcome("t1.1", WITH_FILES)
    link_up(play)
    assert play.take() == STORE


def test_contents_that_arrive_while_the_link_is_away_are_asked_for_again(play):
    """A word costs little, and an outcome without its contents would be refused."""
    finish(play)
    play.take()
    play.do(reactor.on_link_lost)
    play.take()
    play.do(delivery.on_contents_stored, "t1.1")
    assert play.effects == []
    link_up(play)
    assert play.take() == SendOutcome("t1.1", WITH_FILES)


def test_an_assignment_of_what_is_finished_sends_the_contents_first(play):
    """A dispatcher that asks anew may lack them."""
    finish(play)
    play.take()
    play.assign(1)
    assert play.take() == STORE


def test_contents_that_are_refused_for_good_make_the_outcome_a_failure(play):
    """It says why, names no files, keeps the exit code, and is sent at once."""
    finish(play)
    play.take()
    play.do(delivery.on_contents_refused, "t1.1", "they are too many")
    assert play.take() == ReleaseContents("t1.1")
    outcome = play.take().outcome
    report = outcome.report
    assert (report.failure_reason, report.exit_code, report.outputs) == (FailureReason.STAGING, 0, [])
    assert report.detail == "they are too many"
    assert outcome.contents == ()


def test_a_failure_keeps_its_reason_when_its_contents_are_refused(play):
    """What the command did wrong is still what is told."""
    failed = msgspec.structs.replace(WITH_FILES.report, failure_reason=FailureReason.EXIT_CODE, exit_code=3)
    finish(play, msgspec.structs.replace(WITH_FILES, report=failed))
    play.take()
    play.do(delivery.on_contents_refused, "t1.1", "no")
    play.take()
    assert play.take().outcome.report.failure_reason is FailureReason.EXIT_CODE


def test_what_was_spooled_with_refused_contents_is_written_anew(play):
    """The next life would try to send what is not there any more."""
    finish(play)
    play.take()
    play.do(spooling.on_spool_due, now=1.0)
    play.take()
    play.do(spooling.on_spooled, "t1.1")
    play.do(delivery.on_contents_refused, "t1.1", "no")
    assert play.take() == ReleaseContents("t1.1")
    spooled, sent = play.take(), play.take()
    assert isinstance(spooled, SpoolOutcome)
    assert isinstance(sent, SendOutcome)
    assert spooled.outcome == sent.outcome == play.state.finished["t1.1"].outcome


def test_an_outcome_that_is_wanted_no_more_lets_its_contents_go(play):
    """Before they were sent, and when the command is still to end."""
    finish(play)
    play.take()
    play.do(reactor.on_cancel, CancelAttempt("t1.1", discard=True), now=1.0)
    assert play.take() == ReleaseContents("t1.1")
    play.assign(1)
    play.taken_starts()
    play.do(reactor.on_cancel, CancelAttempt("t1.1", discard=True), now=1.0)
    assert play.take() == StopCommand("t1.1", at_once=True)
    finish(play)
    assert play.take() == ReleaseContents("t1.1")
    assert not play.state.finished


def test_word_of_contents_that_nobody_waits_for_changes_nothing(play):
    """It may come late."""
    play.do(delivery.on_contents_stored, "t9.1")
    play.do(delivery.on_contents_refused, "t9.1", "no")
    assert play.effects == []


def test_what_an_earlier_life_left_is_sent_with_its_contents():
    """From the spool, over the first link; acknowledged it is deleted and they are let go."""
    play = Play(is_linked=False)
    play.do(spooling.on_spool_loaded, {"t1.1": WITH_FILES})
    link_up(play)
    assert play.take() == STORE
    play.do(delivery.on_contents_stored, "t1.1")
    play.take()
    play.do(reactor.on_acknowledged, "t1.1")
    assert [play.take(), play.take()] == [ForgetOutcome("t1.1"), ReleaseContents("t1.1")]
    assert not [effect for effect in play.effects if isinstance(effect, Send)]
