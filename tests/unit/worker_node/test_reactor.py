"""The worker's core as a for-loop: events in, effects out, invariants after every step.

Long because it is a list: many small cases of one object.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from octaskly_wire.codec import Codec, decode_from_worker, encode
from octaskly_wire.messages import (
    AdmissionChanged,
    AssignAttempt,
    AttemptFinished,
    AttemptRejected,
    AttemptStarted,
    CancelAttempt,
    DrainStarted,
    HeldAttempt,
    LevelProof,
    Limits,
    OutcomeReport,
    OutputChunk,
    Refused,
    Register,
    UnprovenLevel,
    Vitals,
    Welcome,
)
from octaskly_wire.vocabulary import (
    Admission,
    FailureReason,
    HeldPhase,
    RefusalCode,
    RejectionReason,
    SandboxLevel,
)
from worker_node.core import handing_back, reactor, spooling
from worker_node.core.effects import (
    CloseLink,
    LeaveForGood,
    Send,
    SendOutcome,
    SpoolOutcome,
    StartCommand,
    StopCommand,
)
from worker_node.core.outcome import KeptOutput, Outcome
from worker_node.core.state import MAX_WAITING_A_SLOT, PATIENCE_S, Offer, WorkerState

WELCOME = Welcome(Admission.APPROVED, heartbeat_interval_s=5.0, lease_s=30.0)
VITALS = Vitals(1.0, 100, 50, 10, 0.5)
CAPS = Limits(**dict.fromkeys(Limits.__struct_fields__, 100))
DONE = Outcome(OutcomeReport(None, 0, 12, SandboxLevel.BASIC, "test"))


class Play:
    """Calls the reactor, checks the state after every step, and remembers what was to be done."""

    def __init__(self, slots: int = 2, *, is_linked: bool = True, **offered) -> None:
        proofs = (LevelProof(SandboxLevel.NONE, "test"), LevelProof(SandboxLevel.BASIC, "test"))
        self.state = WorkerState(
            Offer("w", slots, proofs, allows_network=False, platform="p", cpu_count=1, memory_total_bytes=1, **offered)
        )
        self.effects: list = []
        self.now = 0.0
        if is_linked:
            self.do(reactor.on_link_up, WELCOME, now=0.0)
            assert isinstance(self.take().message, Register)

    def do(self, step: Callable, *arguments, **named) -> None:
        effects = step(self.state, *arguments, **named)
        self.state.check_invariants()
        for effect in effects:
            if isinstance(effect, Send):
                # What the codec cannot carry would only fail in the shell.
                assert decode_from_worker(encode(effect.message, Codec.JSON), Codec.JSON) == effect.message
        self.effects += effects

    def take(self):
        return self.effects.pop(0)

    def assign(self, *numbers: int, **changes) -> None:
        for number in numbers:
            self.do(reactor.on_assign, assignment(number, **changes), now=self.now)

    def taken_starts(self) -> list[str]:
        starts, self.effects = self.effects, []
        assert all(isinstance(effect, StartCommand) for effect in starts)
        return [effect.assignment.attempt_id for effect in starts]


def assignment(number: int, **changes) -> AssignAttempt:
    """Return the first attempt of a task with this number."""
    fields = {"timeout_s": 10, "sandbox": SandboxLevel.BASIC, "allows_network": False, **changes}
    return AssignAttempt(attempt_id=f"t{number}.1", task_id=f"t{number}", command="true", **fields)


def test_an_attempt_goes_from_assignment_to_acknowledgement():
    """Start, tell, finish, tell, forget."""
    play = Play()
    play.assign(1)
    assert play.take() == StartCommand(assignment(1), "test")
    play.do(reactor.on_process_started, "t1.1")
    assert play.take() == Send(AttemptStarted("t1.1"))
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert play.take() == SendOutcome("t1.1", DONE)
    assert not play.state.is_idle
    play.do(reactor.on_acknowledged, "t1.1")
    assert play.effects == []
    assert play.state.is_idle


def test_what_is_beyond_the_slots_waits_its_turn():
    """A slot that gets free is filled at once, first come first served."""
    play = Play(slots=2)
    play.assign(1, 2, 3, 4)
    assert play.taken_starts() == ["t1.1", "t2.1"]
    play.do(reactor.on_process_exited, "t2.1", DONE, now=0.0)
    assert play.take() == SendOutcome("t2.1", DONE)
    assert play.taken_starts() == ["t3.1"]


def test_more_than_may_wait_is_handed_back():
    """What a worker holds is bounded by its slots."""
    play = Play(slots=2)
    most = 2 * (1 + MAX_WAITING_A_SLOT)
    play.assign(*range(1, most + 1))
    assert play.taken_starts() == ["t1.1", "t2.1"]
    play.assign(most + 1)
    assert play.take().message.reason is RejectionReason.NO_FREE_SLOT


def test_what_is_killed_for_nobody_costs_no_place():
    """The dispatcher has forgotten it and gives out its slot, and the most that it gives ahead."""
    play = Play(slots=1)
    play.assign(1)
    play.do(reactor.on_cancel, CancelAttempt("t1.1", discard=True), now=0.0)
    play.effects.clear()
    play.assign(*range(2, 2 + MAX_WAITING_A_SLOT))
    assert play.effects == []


def test_what_waits_too_long_is_handed_back():
    """All of it, when patience with the first is over: another worker may have a free slot."""
    play = Play(slots=1)
    play.now = 10.0
    play.assign(1, 2)
    play.now = 10.3
    play.assign(3)
    play.taken_starts()
    assert play.state.patience_ends_at == 10.0 + PATIENCE_S
    play.do(handing_back.on_patience_over, now=10.4)
    assert play.effects == []
    play.do(handing_back.on_patience_over, now=10.5)
    rejections = [play.take().message, play.take().message]
    assert [(rejection.attempt_id, rejection.reason) for rejection in rejections] == [
        ("t2.1", RejectionReason.NO_FREE_SLOT),
        ("t3.1", RejectionReason.NO_FREE_SLOT),
    ]
    assert play.state.patience_ends_at is None


def test_patience_ends_over_a_link_only():
    """Without one nobody else could be given what waits; with the next one it goes back at once."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_link_lost)
    assert play.state.patience_ends_at is None
    play.do(handing_back.on_patience_over, now=9.0)
    assert play.effects == []
    play.do(reactor.on_link_up, WELCOME, now=9.0)
    assert play.take().message.held == [
        HeldAttempt("t1.1", HeldPhase.RUNNING),
        HeldAttempt("t2.1", HeldPhase.WAITING),
    ]
    play.do(handing_back.on_patience_over, now=9.0)
    assert play.take().message.reason is RejectionReason.NO_FREE_SLOT


def test_the_same_assignment_twice_runs_once():
    """An attempt in hand is not started again; a finished one is told again."""
    play = Play(slots=1)
    play.assign(1, 2, 1, 2)
    assert play.taken_starts() == ["t1.1"]
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    play.effects.clear()
    play.assign(1)
    assert play.take() == SendOutcome("t1.1", DONE)
    assert play.effects == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sandbox": SandboxLevel.STRICT}, RejectionReason.SANDBOX_UNAVAILABLE),
        ({"sandbox": SandboxLevel.VERY_STRICT}, RejectionReason.SANDBOX_UNAVAILABLE),
        ({"allows_network": True}, RejectionReason.NETWORK_NOT_ALLOWED),
        ({"timeout_s": 601}, RejectionReason.LIMIT_NOT_ALLOWED),
        *(({"limits": Limits(**{name: 101})}, RejectionReason.LIMIT_NOT_ALLOWED) for name in Limits.__struct_fields__),
    ],
    ids=str,
)
def test_what_is_not_offered_is_handed_back(changes, reason):
    """A level or a right that this worker does not grant never becomes a weaker one."""
    play = Play(max_limits=CAPS, max_timeout_s=600)
    play.assign(1, **changes)
    rejection = play.take().message
    assert (rejection.attempt_id, rejection.reason) == ("t1.1", reason)
    assert rejection.detail
    assert play.effects == []


def test_what_waits_is_handed_back_when_its_level_is_lost():
    """The offer may change while an attempt waits for a slot: it never starts at a level that is not proven."""
    play = Play(slots=1)
    play.assign(1, 2, sandbox=SandboxLevel.BASIC)
    play.assign(3, sandbox=SandboxLevel.NONE)
    assert play.taken_starts() == ["t1.1"]
    play.state.offer = replace(play.state.offer, proofs=(LevelProof(SandboxLevel.NONE, "test"),))
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert play.take() == SendOutcome("t1.1", DONE)
    rejection = play.take().message
    assert (rejection.attempt_id, rejection.reason) == ("t2.1", RejectionReason.SANDBOX_UNAVAILABLE)
    assert play.taken_starts() == ["t3.1"]


def test_what_stays_within_the_caps_runs():
    """As much as is allowed, or nothing asked for; and the dispatcher is told the caps."""
    play = Play(
        max_limits=CAPS, max_timeout_s=600, unproven=(UnprovenLevel(SandboxLevel.STRICT, "no"),), is_linked=False
    )
    play.do(reactor.on_link_up, WELCOME, now=0.0)
    register = play.take().message
    assert (register.max_limits, register.max_timeout_s) == (CAPS, 600)
    assert [unproven.level for unproven in register.unproven] == [SandboxLevel.STRICT]
    play.assign(1, limits=CAPS, timeout_s=600)
    play.assign(2)
    assert play.taken_starts() == ["t1.1", "t2.1"]


def test_a_failed_set_up_hands_the_attempt_back_and_frees_the_slot():
    """The command never ran, so there is no outcome."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_process_refused, "t1.1", RejectionReason.SANDBOX_UNAVAILABLE, "x" * 5000)
    assert play.take().message.reason is RejectionReason.SANDBOX_UNAVAILABLE
    assert play.taken_starts() == ["t2.1"]


def test_cancel_stops_a_command_once():
    """A second cancel changes nothing; the outcome is sent when the tree is dead."""
    play = Play()
    play.assign(1)
    play.taken_starts()
    play.do(reactor.on_cancel, CancelAttempt("t1.1"), now=0.0)
    assert play.take() == StopCommand("t1.1")
    play.do(reactor.on_cancel, CancelAttempt("t1.1"), now=0.0)
    assert play.effects == []
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert play.take() == SendOutcome("t1.1", DONE)


def test_a_discarded_attempt_is_killed_and_not_told():
    """Nobody wants its outcome, and its slot is free again."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_cancel, CancelAttempt("t1.1", discard=True), now=0.0)
    assert play.take() == StopCommand("t1.1", at_once=True)
    assert [held.attempt_id for held in play.state.held()] == ["t2.1"]
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert play.taken_starts() == ["t2.1"]


def test_cancelling_what_waits_needs_no_kill():
    """With an outcome that says so, or none when it is to be discarded."""
    play = Play(slots=1)
    play.assign(1, 2, 3)
    play.taken_starts()
    play.do(reactor.on_cancel, CancelAttempt("t2.1"), now=0.0)
    effect = play.take()
    assert effect.outcome.report.failure_reason is FailureReason.CANCELLED
    play.do(reactor.on_cancel, CancelAttempt("t3.1", discard=True), now=0.0)
    assert play.effects == []
    assert not play.state.waiting


def test_cancelling_something_unknown_is_nothing():
    """The outcome may be under way already."""
    play = Play()
    play.do(reactor.on_cancel, CancelAttempt("t9.1"), now=0.0)
    play.do(reactor.on_cancel, CancelAttempt("t9.1", discard=True), now=0.0)
    assert play.effects == []


def test_a_new_link_tells_all_that_is_in_hand():
    """Register lists running, waiting and finished attempts; then the outcomes are sent again."""
    play = Play(slots=2)
    play.assign(1, 2, 3)
    play.do(reactor.on_link_lost)
    play.effects.clear()
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert play.take() == SpoolOutcome("t1.1", DONE)
    assert play.taken_starts() == ["t3.1"]
    play.do(reactor.on_process_started, "t3.1")
    assert play.effects == []
    play.do(reactor.on_link_up, WELCOME, now=9.0)
    register = play.take().message
    assert register.held == [
        HeldAttempt("t2.1", HeldPhase.RUNNING),
        HeldAttempt("t3.1", HeldPhase.RUNNING),
        HeldAttempt("t1.1", HeldPhase.FINISHED),
    ]
    assert play.take() == SendOutcome("t1.1", DONE)
    assert play.effects == []


def test_a_rejection_outlives_a_lost_link():
    """It is told after the next Register, which still lists the attempt."""
    play = Play()
    play.assign(1)
    play.do(reactor.on_link_lost)
    play.effects.clear()
    play.do(reactor.on_process_refused, "t1.1", RejectionReason.SANDBOX_UNAVAILABLE, "why")
    assert play.effects == []
    play.do(reactor.on_link_up, WELCOME, now=9.0)
    assert play.take().message.held == [HeldAttempt("t1.1", HeldPhase.WAITING)]
    assert play.take() == Send(AttemptRejected("t1.1", RejectionReason.SANDBOX_UNAVAILABLE, "why"))
    assert play.state.held() == []


def test_heartbeats_go_on_until_three_are_unanswered():
    """Silence for three intervals means a dead link; an answer in time does not."""
    play = Play()
    play.assign(1)
    play.taken_starts()
    play.do(reactor.on_heartbeat_due, VITALS, now=5.0)
    heartbeat = play.take().message
    assert (heartbeat.sequence, heartbeat.attempt_ids) == (1, ["t1.1"])
    play.do(reactor.on_heartbeat_acknowledged, 1, now=5.1)
    play.do(reactor.on_heartbeat_due, VITALS, now=20.0)
    assert play.take().message.sequence == 2
    play.do(reactor.on_heartbeat_due, VITALS, now=20.2)
    assert isinstance(play.take(), CloseLink)


def test_a_round_trip_is_told_once_and_belongs_to_its_own_heartbeat():
    """An answer that takes longer than the interval is measured from its own question, and a new link knows nothing."""
    play = Play()

    def told(now: float) -> float | None:
        play.do(reactor.on_heartbeat_due, VITALS, now=now)
        return play.take().message.vitals.round_trip_seconds

    assert [told(5.0), told(10.0)] == [None, None]
    play.do(reactor.on_heartbeat_acknowledged, 1, now=12.0)
    assert [told(12.5), told(12.6)] == [7.0, None]
    play.do(reactor.on_heartbeat_acknowledged, 4, now=12.625)
    play.do(reactor.on_heartbeat_acknowledged, 77, now=12.7)
    assert told(13.0) == pytest.approx(0.025)
    play.do(reactor.on_heartbeat_acknowledged, 5, now=13.1)
    play.do(reactor.on_link_lost)
    play.do(reactor.on_link_up, WELCOME, now=14.0)
    play.take()
    play.do(reactor.on_heartbeat_acknowledged, 3, now=14.1)
    assert told(14.2) is None


def test_draining_hands_back_what_waits_and_finishes_what_runs():
    """The dispatcher's Drain is taken back by Resume."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_drain)
    assert play.take().message.reason is RejectionReason.DRAINING
    play.assign(3)
    assert play.take().message.reason is RejectionReason.DRAINING
    play.do(reactor.on_resume)
    play.do(reactor.on_process_exited, "t1.1", DONE, now=0.0)
    assert isinstance(play.take(), SendOutcome)
    play.assign(3)
    assert play.taken_starts() == ["t3.1"]


def test_stopping_is_told_once_and_never_taken_back():
    """Our own drain survives Resume and a new link."""
    play = Play(slots=1)
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_stop)
    assert play.take() == Send(DrainStarted())
    assert play.take().message.reason is RejectionReason.DRAINING
    play.do(reactor.on_stop)
    play.do(reactor.on_resume)
    play.do(reactor.on_link_lost)
    play.do(reactor.on_link_up, WELCOME, now=1.0)
    assert play.take().message.is_draining
    play.assign(3)
    assert play.take().message.reason is RejectionReason.DRAINING


def test_the_drain_timeout_stops_all_that_runs():
    """Without another grace: they had the whole timeout."""
    play = Play()
    play.assign(1, 2)
    play.taken_starts()
    play.do(reactor.on_stop)
    play.effects.clear()
    play.do(reactor.on_drain_timeout)
    assert play.effects == [StopCommand("t1.1", at_once=True), StopCommand("t2.1", at_once=True)]


def test_a_revoked_worker_leaves():
    """Other changes of admission are only noted."""
    play = Play()
    play.do(reactor.on_admission_changed, AdmissionChanged(Admission.SUSPENDED))
    assert play.effects == []
    assert play.state.admission is Admission.SUSPENDED
    play.do(reactor.on_admission_changed, AdmissionChanged(Admission.REVOKED))
    assert isinstance(play.take(), LeaveForGood)


def test_a_final_refusal_ends_the_worker_and_another_only_the_link():
    """The dispatcher knows which."""
    assert isinstance(reactor.on_refused(Refused(RefusalCode.REVOKED, "", is_final=True))[0], LeaveForGood)
    assert isinstance(reactor.on_refused(Refused(RefusalCode.SHUTTING_DOWN, "", is_final=False))[0], CloseLink)


def test_much_output_goes_ahead_in_chunks_and_little_rides_along():
    """Chunks come in order and before the outcome; a short stream stays inside."""
    outcome = Outcome(DONE.report, KeptOutput(b"x" * 600_000, 600_000), KeptOutput(b"e", 1))
    *chunks, last = outcome.messages("t1.1")
    assert all(isinstance(chunk, OutputChunk) and chunk.stream == "stdout" for chunk in chunks)
    assert b"".join(chunk.data for chunk in chunks) == b"x" * 600_000
    assert [chunk.offset for chunk in chunks] == [0, 262_144, 524_288]
    assert isinstance(last, AttemptFinished)
    assert last.report.stdout.data is None
    assert last.report.stderr.data == b"e"


@pytest.mark.parametrize("seed", range(20))
def test_no_story_breaks_the_invariants(seed):
    """Random events in any order: slots are never oversold, and every attempt taken is started or handed back."""
    dice = random.Random(seed)
    play = Play(slots=3)
    started: set[str] = set()
    for _ in range(500):
        name = f"t{dice.randrange(30)}.1"
        running = dice.choice([*play.state.running, name])
        match dice.randrange(16):
            case 0 | 1 | 2 if play.state.is_linked:  # assignments come over a link only
                play.assign(int(name[1:-2]))
            case 3 | 4:
                play.do(reactor.on_process_exited, running, DONE, now=0.0)
            case 5:
                play.do(reactor.on_cancel, CancelAttempt(name, discard=dice.random() < 0.5), now=0.0)
            case 6:
                play.do(reactor.on_acknowledged, name)
            case 7:
                play.do(reactor.on_process_refused, running, RejectionReason.SANDBOX_UNAVAILABLE, "")
            case 8:
                play.do(reactor.on_link_lost)
            case 9:
                play.do(reactor.on_link_up, WELCOME, now=0.0)
            case 10:
                play.do(dice.choice([reactor.on_drain, reactor.on_resume]))
            case 11:
                play.do(spooling.on_disk_checked, dice.choice(["", "", "full"]))
            case 12 if play.state.finished:
                written = dice.choice(list(play.state.finished))
                play.do(spooling.on_spooled, written)
            case 13 if play.state.finished:
                play.do(spooling.on_spool_failed, dice.choice(list(play.state.finished)), "full", now=0.0)
            case 14:
                play.do(spooling.on_spool_due, now=dice.uniform(0.0, 3.0))
            case 15:
                play.do(handing_back.on_patience_over, now=dice.uniform(0.0, 1.0))
        started |= {effect.assignment.attempt_id for effect in play.effects if isinstance(effect, StartCommand)}
        play.effects.clear()
        assert set(play.state.running) <= started
