"""The engine's decisions, one behaviour a test, in virtual time.

Long because it is a list: many small cases of one object.
"""

from __future__ import annotations

import pytest

from dispatcher.core.effects import (
    AttemptKey,
    ClaimTask,
    CloseLink,
    FetchReady,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    Send,
    SuspendWorker,
)
from dispatcher.core.events import RecoveredAttempt
from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AdmissionChanged,
    AssignAttempt,
    CancelAttempt,
    Drain,
    Limits,
    OutcomeRefused,
    Refused,
    Resume,
)
from octaskly_wire.vocabulary import Admission, FailureReason, RejectionReason, SandboxLevel
from tests.unit.dispatcher.engine import BASIC, FINISHED, RUNNING, Engine, make_report, make_task


@pytest.fixture
def engine() -> Engine:
    """Return an engine without workers."""
    return Engine()


def test_task_is_claimed_before_it_is_sent(engine):
    """A worker with a free slot gets the task: the record first, the message bound to that claim."""
    engine.join()
    engine.answer_fetch(make_task("t1"))
    claim, send = engine.effects[:2]
    assert claim == ClaimTask(AttemptKey("t1", 1), "w1")
    assert isinstance(send, Send)
    assert isinstance(send.message, AssignAttempt)
    assert send.unless_refused == claim.key
    assert send.message.attempt_id == "t1.1"


def test_outcome_is_recorded_then_acknowledged(engine):
    """The acknowledgement stands behind the record, so the shell sends it after the commit."""
    key = engine.assign(make_task())
    engine.start(key)
    engine.take(RecordStarted)
    engine.finish(key)
    kinds = [type(effect) for effect in engine.effects[:2]]
    assert kinds == [RecordOutcome, Send]
    assert engine.take(RecordOutcome).retry_delay_s is None
    assert engine.take_message(AcknowledgeOutcome).attempt_id == key.attempt_id


def test_priority_stands_before_age(engine):
    """Of two ready tasks the one of higher priority goes first, then the older."""
    engine.join(slots=3)
    engine.answer_fetch(make_task("a"), make_task("b", priority=5), make_task("c"))
    claims = [effect.key.task_id for effect in engine.effects if isinstance(effect, ClaimTask)]
    assert claims == ["b", "a", "c"]


def test_least_busy_worker_goes_first(engine):
    """Work spreads by share of slots in use, not by order of arrival."""
    engine.join("w1", slots=4)
    engine.answer_fetch(make_task("t1"))
    engine.join("w2", slots=4)
    engine.effects.clear()
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.answer_fetch(make_task("t2"))
    assert engine.take(ClaimTask).worker_id == "w2"


def test_no_more_than_slots(engine):
    """A worker with every slot taken gets nothing; a freed slot is filled at once."""
    engine.join(slots=1)
    engine.answer_fetch(make_task("t1"), make_task("t2"))
    first = engine.take(ClaimTask)
    assert not [effect for effect in engine.effects if isinstance(effect, ClaimTask)]
    engine.finish(first.key)
    assert engine.take(ClaimTask).key.task_id == "t2"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sandbox": SandboxLevel.STRICT}, "level not offered"),
        ({"limits": Limits(memory_mb=4000)}, "more memory than the machine has"),
    ],
)
def test_unfit_task_stays_and_does_not_block_others(engine, changes, why):
    """A task that no worker can run waits, and those behind it run."""
    engine.join()
    engine.answer_fetch(make_task("a", **changes), make_task("b"))
    assert engine.take(ClaimTask).key.task_id == "b", why
    assert not [effect for effect in engine.effects if isinstance(effect, ClaimTask)]


def test_network_task_needs_worker_that_allows_it(engine):
    """A worker started without task network is never asked for tasks that want it."""
    engine.join(allows_network=False)
    assert all(not network for _, network in engine.take(FetchReady).classes)


@pytest.mark.parametrize("admission", [Admission.PENDING, Admission.SUSPENDED])
def test_unapproved_worker_gets_nothing_until_approved(engine, admission):
    """Approval takes effect at once, over the link that stands."""
    engine.join(admission=admission)
    engine.tick()
    engine.assert_nothing_left()
    engine.do(
        engine.reactor.on_admission_changed("w1", Admission.APPROVED, is_draining=False, detail="", now=engine.now)
    )
    assert engine.take_message(AdmissionChanged).admission is Admission.APPROVED
    engine.answer_fetch(make_task())
    assert engine.take(ClaimTask).worker_id == "w1"


@pytest.mark.parametrize("admission", [Admission.SUSPENDED, Admission.REVOKED])
def test_suspending_or_revoking_fences_what_runs(engine, admission):
    """The command is killed without an outcome, the task queued again, no loss charged."""
    key = engine.assign(make_task())
    engine.start(key)
    engine.do(engine.reactor.on_admission_changed("w1", admission, is_draining=False, detail="x", now=engine.now))
    assert engine.take_message(CancelAttempt).discard
    given_up = engine.take(RecordGivenUp)
    assert (given_up.is_loss, given_up.retry_delay_s) == (False, 0.0)
    if admission is Admission.REVOKED:
        assert engine.take_message(Refused).is_final
        engine.take(CloseLink)
    engine.finish(key)
    engine.take(RecordSuperseded)


def test_drain_from_the_whitelist_stops_new_work_only(engine):
    """A draining worker finishes what it runs; resuming gives it work again."""
    key = engine.assign(make_task())
    engine.do(engine.reactor.on_admission_changed("w1", Admission.APPROVED, is_draining=True, detail="", now=0))
    engine.take_message(Drain)
    engine.finish(key)
    engine.take(RecordOutcome)
    assert not [effect for effect in engine.effects if isinstance(effect, ClaimTask)]
    engine.do(engine.reactor.on_admission_changed("w1", Admission.APPROVED, is_draining=False, detail="", now=0))
    engine.take_message(Resume)


def test_cut_link_shorter_than_lease_requeues_nothing(engine):
    """A worker that comes back in time keeps its attempt: it is adopted, not run again."""
    key = engine.assign(make_task())
    engine.start(key)
    engine.do(engine.reactor.on_link_lost("w1", 1))
    engine.tick(50)
    engine.effects.clear()
    engine.join(held={key.attempt_id: RUNNING})
    engine.assert_nothing_left()
    engine.finish(key)
    engine.take(RecordOutcome)


def test_silent_worker_loses_its_attempt_after_lease_and_grace(engine):
    """Lease 30 s, grace 60 s: after that the task is queued again and the loss counted."""
    key = engine.assign(make_task())
    engine.start(key)
    engine.take(RecordStarted)
    engine.do(engine.reactor.on_link_lost("w1", 1))
    engine.tick(89)
    assert not [effect for effect in engine.effects if isinstance(effect, RecordGivenUp)]
    engine.tick(2)
    given_up = engine.take(RecordGivenUp)
    assert (given_up.key, given_up.is_loss, given_up.retry_delay_s) == (key, True, 0.0)


def test_silent_link_is_closed_after_the_lease(engine):
    """A link without heartbeats is closed, so that the worker's next one is not mistaken for a second."""
    link = engine.join()
    engine.take(FetchReady)
    engine.tick(31)
    assert engine.take(CloseLink) == CloseLink("w1", link)


def test_late_outcome_is_kept_aside_and_acknowledged(engine):
    """The outcome of a given-up attempt never touches the task, and the worker may forget it."""
    key = engine.assign(make_task())
    engine.do(engine.reactor.on_link_lost("w1", 1))
    engine.tick(91)
    engine.effects.clear()
    engine.join(held={key.attempt_id: FINISHED})
    engine.effects.clear()
    engine.finish(key)
    assert engine.take(RecordSuperseded).key == key
    assert engine.take_message(AcknowledgeOutcome).attempt_id == key.attempt_id


def test_restarted_worker_has_lost_its_attempts_at_once(engine):
    """A new boot id says that the process died: nobody waits for the lease."""
    key = engine.assign(make_task())
    engine.start(key)
    engine.join(boot_id="b2")
    assert engine.take(RecordGivenUp).is_loss
    assert engine.take(CloseLink).worker_id == "w1"


def test_order_lost_with_its_link_is_given_again_without_charge(engine):
    """An attempt that the same process never started was lost on the wire, not by the worker."""
    engine.assign(make_task())
    engine.join()
    assert not engine.take(RecordGivenUp).is_loss


def test_worker_that_lost_its_command_costs_a_loss_not_a_retry(engine):
    """When the worker itself says that the command was lost, the task runs again uncharged."""
    key = engine.assign(make_task())
    engine.finish(key, make_report(FailureReason.WORKER_LOST, None))
    given_up = engine.take(RecordGivenUp)
    assert (given_up.is_loss, given_up.retry_delay_s) == (True, 0.0)
    assert engine.take_message(AcknowledgeOutcome).attempt_id == key.attempt_id


def test_command_cut_off_by_a_drain_is_no_crash(engine):
    """A worker that stops in order and runs out of patience is not charged as lost."""
    key = engine.assign(make_task())
    engine.do(engine.reactor.on_drain_started("w1"))
    engine.finish(key, make_report(FailureReason.WORKER_LOST, None))
    assert not engine.take(RecordGivenUp).is_loss


def test_worker_that_left_in_order_is_no_crash(engine):
    """An order that crossed the worker's word that it stops is given again without a charge, however it is found."""
    engine.assign(make_task())
    engine.do(engine.reactor.on_drain_started("w1"))
    engine.join(boot_id="b2")
    assert not engine.take(RecordGivenUp).is_loss
    engine.effects.clear()
    engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task("t2")], 10))
    engine.do(engine.reactor.on_drain_started("w1"))
    engine.do(engine.reactor.on_link_lost("w1", 2))
    engine.tick(91)
    assert not engine.take(RecordGivenUp).is_loss


def test_unknown_attempt_is_killed(engine):
    """A worker that runs what nobody waits for is told to stop it and say nothing more."""
    engine.join(held={"t9.3": RUNNING})
    message = engine.take_message(CancelAttempt)
    assert (message.attempt_id, message.discard) == ("t9.3", True)


def test_sixth_life_is_not_given(engine):
    """The fifth lost worker ends the task with worker_lost."""
    key = engine.assign(make_task(losses=4, attempt=4))
    engine.start(key)
    engine.join(boot_id="b2")
    given_up = engine.take(RecordGivenUp)
    assert (given_up.retry_delay_s, given_up.failure_reason) == (None, FailureReason.WORKER_LOST)


def test_failing_command_is_retried_with_backoff(engine):
    """max_retries counts the command's own failures; each pause is twice the last, less up to half."""
    key = engine.assign(make_task(max_retries=2, failures=1, attempt=1))
    engine.finish(key, make_report(FailureReason.EXIT_CODE, 3))
    delay_s = engine.take(RecordOutcome).retry_delay_s
    assert delay_s is not None
    assert 1.0 <= delay_s <= 2.0
    engine.effects.clear()
    engine.tick(delay_s)
    assert BASIC in engine.take(FetchReady).classes


def test_retries_end(engine):
    """After max_retries further failures the task fails."""
    key = engine.assign(make_task(max_retries=2, failures=2, attempt=2))
    engine.finish(key, make_report(FailureReason.EXIT_CODE, 3))
    assert engine.take(RecordOutcome).retry_delay_s is None


def test_cancel_is_sent_and_never_retried(engine):
    """A command that is cancelled does not come back, whatever its retries."""
    key = engine.assign(make_task(max_retries=5))
    engine.do(engine.reactor.on_cancel_requested("t1", engine.now))
    assert not engine.take_message(CancelAttempt).discard
    engine.finish(key, make_report(FailureReason.SIGNAL, None))
    assert engine.take(RecordOutcome).retry_delay_s is None


def test_cancel_on_a_vanished_worker_ends_the_task_now(engine):
    """Nobody waits ninety seconds for a machine that cannot be told."""
    key = engine.assign(make_task())
    engine.do(engine.reactor.on_link_lost("w1", 1))
    engine.do(engine.reactor.on_cancel_requested("t1", engine.now))
    given_up = engine.take(RecordGivenUp)
    assert (given_up.key, given_up.failure_reason) == (key, FailureReason.CANCELLED)


def test_cancel_twice_is_sent_once(engine):
    """Repeating a wish changes nothing."""
    engine.assign(make_task())
    engine.do(engine.reactor.on_cancel_requested("t1", engine.now))
    engine.take_message(CancelAttempt)
    engine.do(engine.reactor.on_cancel_requested("t1", engine.now))
    engine.assert_nothing_left()


def test_rejected_attempt_costs_nothing(engine):
    """What a worker hands back runs elsewhere; a draining worker gets no more."""
    key = engine.assign(make_task())
    engine.do(engine.reactor.on_attempt_rejected("w1", key.attempt_id, RejectionReason.DRAINING, "", engine.now))
    given_up = engine.take(RecordGivenUp)
    assert (given_up.is_loss, given_up.retry_delay_s) == (False, 0.0)
    engine.join("w2")
    engine.effects.clear()
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task(attempt=1)], 10))
    assert engine.take(ClaimTask) == ClaimTask(AttemptKey("t1", 2), "w2")


def test_refused_claim_frees_the_slot(engine):
    """A task that was cancelled between look and claim is forgotten and the next one runs."""
    engine.join()
    engine.answer_fetch(make_task("a"), make_task("b"))
    refused = engine.take(ClaimTask).key
    engine.take(Send)
    engine.do(engine.reactor.on_claim_refused(refused))
    assert engine.take(ClaimTask).key.task_id == "b"


def test_recovered_attempt_is_adopted(engine):
    """After a dispatcher's restart a worker that still runs the attempt keeps it."""
    recovered = RecoveredAttempt(make_task(), 1, "w1", "b1", is_started=True, is_cancel_requested=False)
    engine.do(engine.reactor.on_recovered([recovered], engine.now))
    engine.tick(60)
    engine.join(held={"t1.1": RUNNING})
    engine.effects.clear()
    engine.finish(AttemptKey("t1", 1))
    engine.take(RecordOutcome)


def test_recovered_attempt_of_a_worker_that_never_returns_is_lost(engine):
    """The fresh lease after a restart ends too."""
    recovered = RecoveredAttempt(make_task(), 1, "w1", "b1", is_started=True, is_cancel_requested=False)
    engine.do(engine.reactor.on_recovered([recovered], engine.now))
    engine.tick(91)
    assert engine.take(RecordGivenUp).is_loss


def test_recovered_cancel_reaches_the_returning_worker(engine):
    """A cancel that was wished for while the dispatcher was down is carried out on reconnect."""
    recovered = RecoveredAttempt(make_task(), 1, "w1", "b1", is_started=True, is_cancel_requested=True)
    engine.do(engine.reactor.on_recovered([recovered], engine.now))
    engine.join(held={"t1.1": RUNNING})
    assert engine.take_message(CancelAttempt).attempt_id == "t1.1"


def test_draining_dispatcher_gives_out_nothing(engine):
    """A stopping dispatcher lets what runs end and starts nothing."""
    engine.do(engine.reactor.on_drain())
    engine.join()
    engine.do(engine.reactor.on_tasks_submitted([BASIC]))
    engine.tick()
    engine.assert_nothing_left()


def test_idle_cluster_looks_at_the_queue_now_and_then(engine):
    """A lost wake-up costs seconds, not a hung task."""
    engine.join()
    engine.answer_fetch()
    engine.tick()
    engine.effects.clear()
    engine.reactor.state.is_fetching = False
    engine.tick(3)
    assert BASIC in engine.take(FetchReady).classes


def test_second_link_of_a_worker_replaces_the_first(engine):
    """The older link is closed and its end changes nothing."""
    first = engine.join()
    engine.join()
    assert engine.take(CloseLink).link_id == first
    engine.do(engine.reactor.on_link_lost("w1", first))
    assert engine.reactor.state.workers["w1"].link_id is not None


def test_message_is_bound_to_the_link_it_was_decided_for(engine):
    """An order decided before a reconnect must not go out over the later link: there it was given back."""
    first = engine.join()
    engine.answer_fetch(make_task())
    order = engine.take(Send)
    second = engine.join()
    assert (order.link_id, second) == (first, first + 1)
    assert not engine.take(RecordGivenUp).is_loss


def test_own_standstill_is_nobodys_silence(engine):
    """A dispatcher that was stopped past all leases reads what was sent meanwhile before it calls anybody lost."""
    key = engine.assign(make_task())
    engine.stand_still(1000)
    engine.tick(10)
    assert not [effect for effect in engine.effects if isinstance(effect, RecordGivenUp | CloseLink)]
    engine.finish(key)
    engine.take(RecordOutcome)


def test_silence_counts_while_the_clock_ticks(engine):
    """With the clock event at its usual pace a silent worker is lost after lease and grace, not later."""
    engine.assign(make_task())
    engine.tick(89)
    assert not [effect for effect in engine.effects if isinstance(effect, RecordGivenUp)]
    engine.tick(2)
    assert engine.take(RecordGivenUp).is_loss


def test_worker_that_keeps_losing_tasks_is_suspended(engine):
    """The fifth failure within ten minutes takes it out of service and says why; the count begins anew."""
    for boot in range(6):
        engine.now += 100
        engine.effects.clear()
        engine.reactor.state.is_fetching = False
        key = engine.assign(make_task(f"t{boot}"), boot_id=f"b{boot}")
        engine.start(key)
        suspended = [effect for effect in engine.effects if isinstance(effect, SuspendWorker)]
        assert bool(suspended) == (boot == 5)
    assert suspended[0].worker_id == "w1"
    assert "5 failures within 10 minutes" in suspended[0].reason


def test_old_failures_are_forgotten(engine):
    """Five failures over an hour are an ordinary machine's life."""
    for boot in range(8):
        engine.now += 400
        engine.reactor.state.is_fetching = False
        key = engine.assign(make_task(f"t{boot}"), boot_id=f"b{boot}")
        engine.start(key)
    assert not [effect for effect in engine.effects if isinstance(effect, SuspendWorker)]


def test_slots_lost_together_are_one_failure(engine):
    """A crash of a machine with many slots counts once."""
    engine.join(slots=6)
    engine.answer_fetch(*[make_task(f"t{number}") for number in range(6)])
    engine.join(boot_id="b2", slots=6)
    assert len([effect for effect in engine.effects if isinstance(effect, RecordGivenUp)]) == 6
    assert not [effect for effect in engine.effects if isinstance(effect, SuspendWorker)]


def test_worker_that_cannot_keep_its_promise_is_charged(engine):
    """A sandbox that fails to set up, again and again, suspends the worker; being full or draining does not."""
    engine.join()
    for number, reason in enumerate([*[RejectionReason.DISK_FULL] * 9, *[RejectionReason.SANDBOX_UNAVAILABLE] * 5]):
        engine.now += 10
        engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task(f"t{number}")], 10))
        key = engine.take(ClaimTask).key
        engine.effects.clear()
        engine.do(engine.reactor.on_attempt_rejected("w1", key.attempt_id, reason, "no", engine.now))
        suspended = [effect for effect in engine.effects if isinstance(effect, SuspendWorker)]
        assert bool(suspended) == (number == 13)


def test_paused_worker_gets_nothing_until_it_resumes(engine):
    """A worker whose disk is full keeps what it runs and is given nothing more."""
    engine.join(slots=2)
    engine.do(engine.reactor.on_work_paused("w1", "disk full"))
    engine.take(FetchReady)
    engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task()], 10))
    engine.assert_nothing_left()
    engine.do(engine.reactor.on_work_paused("w1", ""))
    assert engine.take(ClaimTask).key.task_id == "t1"


def test_contradicting_outcome_is_refused_not_acknowledged(engine):
    """The acknowledgement hangs on the record; when the store refuses that, the worker hears so."""
    key = engine.assign(make_task())
    engine.finish(key)
    engine.effects.clear()
    engine.finish(key, make_report(FailureReason.EXIT_CODE, 1))
    superseded, acknowledgement = engine.take(RecordSuperseded), engine.take(Send)
    assert acknowledgement.unless_refused == superseded.key == key
    engine.do(engine.reactor.on_outcome_refused("w1", key))
    assert engine.take_message(OutcomeRefused).attempt_id == key.attempt_id


def test_nonsense_attempt_is_refused(engine):
    """What is no attempt id never reaches the store."""
    engine.join()
    engine.effects.clear()
    engine.do(engine.reactor.on_attempt_finished("w1", "nonsense", make_report(), b"", b"", engine.now))
    engine.take_message(OutcomeRefused)
    engine.assert_nothing_left()


def test_least_busy_worker_gets_the_next_task(engine):
    """Tasks spread over the machines instead of filling the first."""
    engine.join("w1", slots=4)
    engine.join("w2", slots=4)
    engine.answer_fetch(*[make_task(f"t{number}") for number in range(4)])
    claims = [effect.worker_id for effect in engine.effects if isinstance(effect, ClaimTask)]
    assert sorted(claims) == ["w1", "w1", "w2", "w2"]


def test_index_of_free_workers_stays_small(engine):
    """Ten thousand short tasks leave no trail of stale entries."""
    engine.join("w1", slots=4)
    for number in range(10_000):
        engine.effects.clear()
        engine.do(engine.reactor.on_tasks_submitted([BASIC]))
        engine.reactor.state.is_fetching = False
        engine.do(engine.reactor.on_ready_fetched([BASIC], [make_task(f"t{number:05}")], 256))
        engine.finish(engine.take(ClaimTask).key)
    assert sum(len(heap) for heap in engine.reactor.state.free._heaps.values()) < 100


def test_while_nobody_is_free_little_of_the_queue_is_read():
    """Each submission asks for the head: a thousand busy workers must not have it read for all of their slots."""
    engine = Engine(window_tasks=1)
    engine.join(slots=2)
    wanted = engine.take(FetchReady)
    assert wanted.limit == 4
    tasks = [make_task(f"t{place}") for place in range(4)]
    engine.do(engine.reactor.on_ready_fetched(wanted.classes, tasks, wanted.limit))
    key = engine.take(ClaimTask).key
    engine.do(engine.reactor.on_tasks_submitted({BASIC}))
    assert engine.take(FetchReady).limit == 1
    engine.do(engine.reactor.on_ready_fetched({BASIC}, [], 1))
    engine.finish(key)
    engine.do(engine.reactor.on_tasks_submitted({BASIC}))
    assert engine.take(FetchReady).limit == 4


def test_only_silent_workers_are_looked_at():
    """Whoever was heard stands behind all others, so that the clock event comes to the silent ones first."""
    engine = Engine(lease_s=30.0)
    for worker_id in ("w1", "w2", "w3"):
        engine.join(worker_id)
    engine.now += 20
    engine.do(engine.reactor.on_heartbeat("w1", engine.now))
    engine.now += 10
    engine.join("w2", boot_id="b2")
    state = engine.reactor.state
    assert [worker.worker_id for worker in state.silent_for(5.0, engine.now)] == ["w3", "w1"]
    assert [worker.worker_id for worker in state.silent_for(30.0, engine.now)] == []
    assert [worker.worker_id for worker in state.silent_for(29.9, engine.now)] == ["w3"]
