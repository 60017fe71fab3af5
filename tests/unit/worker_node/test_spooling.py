"""When an outcome goes to disk, and what a full disk means for new work."""

from __future__ import annotations

import pytest

from octaskly_wire.messages import CancelAttempt, OutcomeRefused, Register, WorkPaused, WorkResumed
from octaskly_wire.vocabulary import RejectionReason
from tests.unit.worker_node.test_reactor import DONE, WELCOME, Play
from worker_node.core import reactor, spooling
from worker_node.core.effects import ForgetOutcome, Send, SendOutcome, SpoolOutcome
from worker_node.core.spooling import RETRY_S, SPOOL_AFTER_S


@pytest.fixture
def play():
    """Return a linked worker with two slots that runs t1.1 and t2.1."""
    play = Play(slots=2)
    play.assign(1, 2)
    play.taken_starts()
    return play


def finish(play, attempt_id, now=0.0):
    """Let a command end."""
    play.do(reactor.on_process_exited, attempt_id, DONE, now=now)


def test_what_is_acknowledged_promptly_never_touches_the_disk(play):
    """Sent at once, acknowledged within a moment, forgotten."""
    finish(play, "t1.1")
    assert play.take() == SendOutcome("t1.1", DONE)
    play.do(spooling.on_spool_due, now=SPOOL_AFTER_S / 2)
    play.do(reactor.on_acknowledged, "t1.1")
    play.do(spooling.on_spool_due, now=9.0)
    assert play.effects == []
    assert not play.state.finished


def test_what_waits_for_its_acknowledgement_is_spooled_once_and_deleted_after(play):
    """One write, however often somebody looks; one deletion."""
    finish(play, "t1.1")
    play.take()
    for now in (SPOOL_AFTER_S, 1.0, 2.0):
        play.do(spooling.on_spool_due, now=now)
    assert play.effects == [SpoolOutcome("t1.1", DONE)]
    play.effects.clear()
    play.do(spooling.on_spooled, "t1.1")
    play.do(spooling.on_spool_due, now=9.0)
    play.do(reactor.on_acknowledged, "t1.1")
    assert play.effects == [ForgetOutcome("t1.1")]


def test_without_a_link_it_is_spooled_at_once(play):
    """There is nobody to wait for."""
    play.do(reactor.on_link_lost)
    finish(play, "t1.1")
    assert play.effects == [SpoolOutcome("t1.1", DONE)]


def test_a_lost_link_spools_what_was_not_acknowledged(play):
    """Whether the acknowledgement was on its way nobody knows."""
    finish(play, "t1.1")
    play.effects.clear()
    play.do(reactor.on_link_lost)
    assert play.effects == [SpoolOutcome("t1.1", DONE)]


def test_what_an_earlier_life_left_is_presented_and_deleted_after(play):
    """The next link's inventory names it, it is sent again, and its file goes with the acknowledgement."""
    play = Play(is_linked=False)
    play.do(spooling.on_spool_loaded, {"t9.2": DONE})
    play.do(reactor.on_link_up, WELCOME, now=0.0)
    register = play.take().message
    assert isinstance(register, Register)
    assert [held.attempt_id for held in register.held] == ["t9.2"]
    assert play.take() == SendOutcome("t9.2", DONE)
    play.do(reactor.on_acknowledged, "t9.2")
    assert play.effects == [ForgetOutcome("t9.2")]


@pytest.mark.parametrize("ending", ["refused", "discarded"])
def test_an_outcome_that_nobody_wants_is_deleted(play, ending):
    """Refused as contradicting, or of an attempt that was given up."""
    play.do(reactor.on_link_lost)
    finish(play, "t1.1")
    play.effects.clear()
    if ending == "refused":
        play.do(reactor.on_outcome_refused, OutcomeRefused("t1.1", "another is on record"))
    else:
        play.do(reactor.on_cancel, CancelAttempt("t1.1", discard=True), now=0.0)
    assert play.effects == [ForgetOutcome("t1.1")]


def test_a_failed_write_pauses_the_worker_until_it_succeeds(play):
    """New work is handed back with the cause; the write is tried again once a second; nothing else is needed."""
    play.assign(3)
    finish(play, "t1.1")
    play.effects.clear()
    play.do(spooling.on_spool_due, now=1.0)
    play.take()
    play.do(spooling.on_spool_failed, "t1.1", "no space left", now=1.0)
    assert play.take() == Send(WorkPaused("no space left"))
    assert play.effects == [], "what was started before goes on"
    play.assign(4)
    rejected = play.take().message
    assert (rejected.reason, rejected.detail) == (RejectionReason.DISK_FULL, "no space left")
    play.do(spooling.on_spool_due, now=1.0 + RETRY_S / 2)
    assert play.effects == []
    play.do(spooling.on_spool_due, now=1.0 + RETRY_S)
    assert play.take() == SpoolOutcome("t1.1", DONE)
    play.do(spooling.on_spooled, "t1.1")
    assert play.take() == Send(WorkResumed())


def test_an_acknowledgement_ends_the_pause_too(play):
    """What the dispatcher has needs no disk."""
    finish(play, "t1.1")
    play.do(spooling.on_spool_due, now=1.0)
    play.do(spooling.on_spool_failed, "t1.1", "no space left", now=1.0)
    play.effects.clear()
    play.do(reactor.on_acknowledged, "t1.1")
    assert play.effects == [Send(WorkResumed())]


def test_a_short_disk_is_told_once_and_again_on_every_link(play):
    """The dispatcher forgets with the link; the worker does not."""
    for _ in range(3):
        play.do(spooling.on_disk_checked, "12 MB free")
    assert play.effects == [Send(WorkPaused("12 MB free"))]
    play.effects.clear()
    play.do(reactor.on_link_lost)
    play.do(reactor.on_link_up, WELCOME, now=0.0)
    assert isinstance(play.take().message, Register)
    assert play.take() == Send(WorkPaused("12 MB free"))
    play.do(spooling.on_disk_checked, "")
    assert play.take() == Send(WorkResumed())


def test_what_waits_for_a_slot_goes_back_when_the_disk_fills():
    """It can run elsewhere at once."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(spooling.on_disk_checked, "12 MB free")
    assert play.take() == Send(WorkPaused("12 MB free"))
    assert play.take().message.reason is RejectionReason.DISK_FULL
    assert not play.state.waiting


def test_a_stopping_worker_may_leave_once_all_is_on_disk(play):
    """With a dispatcher it delivers; without one the disk is enough."""
    play.do(reactor.on_stop)
    finish(play, "t1.1")
    finish(play, "t2.1")
    assert not play.state.can_leave
    play.do(reactor.on_link_lost)
    assert not play.state.can_leave
    play.do(spooling.on_spooled, "t1.1")
    play.do(spooling.on_spooled, "t2.1")
    assert play.state.can_leave
    assert not play.state.is_idle
