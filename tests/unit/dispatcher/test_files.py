"""Files as the engine sees them: what an assignment names, what a worker may ask for, what it may report."""

from __future__ import annotations

import msgspec
import pytest

from dispatcher.core import authority
from dispatcher.core.effects import AttemptKey, RecordOutcome
from dispatcher.core.reported_files import with_sound_files
from octaskly_wire.messages import AssignAttempt, InputFile, OutputFile
from octaskly_wire.vocabulary import Admission, FailureReason
from tests.unit.dispatcher.engine import Engine, make_report, make_task

DIGEST, OTHER = "ab" * 32, "cd" * 32
INPUT = InputFile("in", DIGEST, 3)


@pytest.fixture
def engine():
    """Return an engine with nothing in it."""
    return Engine()


def assigned(engine):
    """Give a task with an input to w1; return its attempt's id."""
    return engine.assign(make_task(inputs=(INPUT,), outputs=("*.png",))).attempt_id


def reported(*names):
    """Return the report of a command that left these files."""
    return msgspec.structs.replace(make_report(), outputs=[OutputFile(name, DIGEST, 1) for name in names])


def test_an_assignment_names_inputs_and_outputs(engine):
    """The worker learns of both with the order."""
    engine.join()
    engine.answer_fetch(make_task(inputs=(INPUT,), outputs=("*.png",)))
    order = engine.take_message(AssignAttempt)
    assert (order.inputs, order.outputs) == ([INPUT], ["*.png"])


def test_a_worker_fetches_inputs_and_stores_outputs_of_its_live_attempt(engine):
    """And nothing else: neither another content, nor for another attempt, nor another worker."""
    attempt_id = assigned(engine)
    engine.join("w2")
    state = engine.reactor.state
    assert authority.objection_to_fetch(state, "w1", attempt_id, DIGEST) is None
    assert authority.objection_to_store(state, "w1", attempt_id) is None
    assert "is no input" in authority.objection_to_fetch(state, "w1", attempt_id, OTHER)
    for worker_id, other_id in (("w2", attempt_id), ("w1", "t1.2"), ("w1", "t2.1"), ("w3", attempt_id), ("w1", "x")):
        assert "is not live on this worker" in authority.objection_to_fetch(state, worker_id, other_id, DIGEST)
        assert "is not live on this worker" in authority.objection_to_store(state, worker_id, other_id)


def test_authority_ends_with_the_attempt(engine):
    """After the outcome, and after the attempt was taken away from its worker."""
    attempt_id = assigned(engine)
    engine.finish(AttemptKey.parse(attempt_id))
    assert authority.objection_to_store(engine.reactor.state, "w1", attempt_id) is not None
    engine.effects.clear()
    second = Engine()
    attempt_id = assigned(second)
    second.do(
        second.reactor.on_admission_changed("w1", Admission.SUSPENDED, is_draining=False, detail="", now=second.now)
    )
    assert authority.objection_to_fetch(second.reactor.state, "w1", attempt_id, DIGEST) is not None


@pytest.mark.parametrize("admission", [admission for admission in Admission if admission is not Admission.APPROVED])
def test_only_approved_workers_get_links_for_transfers(engine, admission):
    """Whoever may not work has nothing to fetch."""
    engine.join("w1", admission=admission)
    assert authority.objection_to_link(engine.reactor.state, "w1", "b1") == f"the worker is {admission.value}"


def test_a_link_for_transfers_needs_the_control_link_of_the_same_start(engine):
    """Neither a stranger, nor one that was cut off, nor one that started anew."""
    link_id = engine.join("w1", boot_id="b1")
    state = engine.reactor.state
    assert authority.objection_to_link(state, "w1", "b1") is None
    assert authority.objection_to_link(state, "w1", "b2") == "the control link is of another start of the worker"
    assert authority.objection_to_link(state, "w2", "b1") == "the worker has no control link"
    engine.answer_fetch(make_task())
    engine.do(engine.reactor.on_link_lost("w1", link_id))
    assert authority.objection_to_link(state, "w1", "b1") == "the worker has no control link"


def test_sound_reports_stay_as_they_are():
    """Ordinary names are believed."""
    report = reported("a.png", "b/a.png")
    assert with_sound_files(report) is report


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["../../etc/passwd"], "an output '../../etc/passwd', which must not have a part '..'"),
        (["a", "/b"], "an output '/b', which must be relative"),
        (["a\x1b[2J"], "which must not contain the control character U+001B"),
        (["A.png", "a.PNG"], "the output 'a.PNG' twice"),
    ],
)
def test_a_report_with_a_hostile_name_is_a_failure_without_files(names, words):
    """No such name reaches the tables; the task ends all the same, and says why."""
    report = with_sound_files(reported(*names))
    assert (report.failure_reason, report.outputs) == (FailureReason.STAGING, [])
    assert words in report.detail


def test_a_failed_commands_own_reason_stays():
    """The names come on top of it."""
    failed = msgspec.structs.replace(reported(".."), failure_reason=FailureReason.TIMEOUT, detail="too slow")
    report = with_sound_files(failed)
    assert report.failure_reason is FailureReason.TIMEOUT
    assert report.detail.startswith("too slow; the worker reported an output '..'")


def test_the_engine_records_the_sound_report(engine):
    """What it was told is not what it writes."""
    key = AttemptKey.parse(assigned(engine))
    engine.finish(key, reported("../up"))
    assert engine.take(RecordOutcome).report.failure_reason is FailureReason.STAGING
