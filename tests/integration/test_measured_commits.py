"""Each commit of the engine tells what it measured, once it is on disk, and the metrics agree with the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from django.db import OperationalError, transaction
from django.db.models import Count, Sum

from accounts_app.roles import Role
from dispatcher.ports import (
    AttemptKey,
    ClaimTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    StoreUnavailable,
    WorkersSeen,
)
from metrics_app.instruments import REGISTRY
from metrics_app.tally import tally
from octaskly_wire.messages import OutcomeReport, Vitals
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tasks_app import services, signals
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import DispatchStore
from tasks_app.ids import new_task_ids
from tasks_app.measured import MeasuredOutcome
from tasks_app.models import Result, Task, TaskStatus
from tests.support.hearing import hearing
from workers_app.models import Worker

pytestmark = pytest.mark.django_db

DONE = OutcomeReport(None, 0, 1500, SandboxLevel.STRICT, "test", spawn_seconds=0.25)
FAILED = OutcomeReport(FailureReason.EXIT_CODE, 1, 250, SandboxLevel.BASIC, "test")


@pytest.fixture
def store(tmp_path):
    """Return a store."""
    return DispatchStore(BlobStore(tmp_path / "blobs", max_bytes=1 << 30, reserve_bytes=0))


@pytest.fixture
def told():
    """Return a list of what commits tell."""
    with hearing(signals.records_committed, "measured") as heard:
        yield heard


@pytest.fixture
def add_task(user_of):
    """Return a function that puts a task into the database that has been able to run for so long."""
    owner = user_of(Role.CLIENT)

    def add(waits_s: float = 0.0, **changes) -> Task:
        moment = datetime.now(UTC) - timedelta(seconds=waits_s)
        fields = {"command": "true", "sandbox": "basic", "created_at": moment, "available_at": moment, "owner": owner}
        return Task.objects.create(id=new_task_ids(1)[0], **(fields | changes))

    return add


def sample(name: str, **labels: str) -> float:
    """Return a sample of the registry as it stands."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_group_tells_what_it_measured(store, told, add_task):
    """One value a commit: waits from when a task might run, outcomes as told, losses, round trips, endings."""
    tasks = [add_task(waits_s) for waits_s in (30, -20, 0, 0)]
    keys = [AttemptKey(task.id, 1) for task in tasks]
    Worker.objects.create(id="w1", public_key_sha256="k", created_at=datetime.now(UTC))
    store.commit([ClaimTask(key, "w1") for key in keys])
    Task.objects.filter(id=tasks[2].id).update(cancel_requested_at=datetime.now(UTC))
    vitals = Vitals(1, 2, 1, 1, 1, round_trip_seconds=0.003)
    store.commit(
        [
            WorkersSeen({"w1": vitals}),
            WorkersSeen({"w1": msgspec.structs.replace(vitals, round_trip_seconds=None)}),
            *(RecordStarted(key, "w1") for key in keys[:3]),
            RecordStarted(keys[0], "w1"),
            RecordOutcome(keys[0], "w1", DONE, b"", b"", None),
            RecordOutcome(keys[0], "w1", DONE, b"", b"", None),
            # The pause before the retry is no part of the wait that was.
            RecordOutcome(keys[1], "w1", FAILED, b"", b"", 60.0),
            RecordOutcome(keys[2], "w1", FAILED, b"", b"", None),
            RecordGivenUp(
                keys[3], "w1", is_loss=True, detail="gone", retry_delay_s=None, failure_reason=FailureReason.WORKER_LOST
            ),
        ]
    )
    first, second = told
    assert (first.records, first.queue_wait_seconds, first.outcomes, first.ended) == (4, (), (), ())
    assert second.records == 11
    assert 0 < second.commit_seconds < 30
    waited, early, at_once = second.queue_wait_seconds
    assert 30 <= waited < 35
    assert early == 0
    assert 0 <= at_once < 5
    failed = MeasuredOutcome("failed", "exit_code", 0.25, None, "basic")
    assert second.outcomes == (MeasuredOutcome("completed", "", 1.5, 0.25, "strict"), failed, failed)
    assert second.given_up == (("lost", "worker_lost"),)
    # The second failure was to be cancelled: its task is.
    assert sorted(second.ended) == ["cancelled", "completed", "failed"]
    assert [Task.objects.get(id=task.id).status for task in tasks] == ["completed", "queued", "cancelled", "failed"]
    assert second.round_trip_seconds == (0.003,)


def test_what_is_not_committed_is_not_told(store, told, add_task, monkeypatch):
    """A try that failed measures nothing; who listens badly does no harm to what is on disk."""
    key = AttemptKey(add_task().id, 1)

    def full(*_, **__):
        raise OperationalError("database or disk is full")

    with monkeypatch.context() as patched, transaction.atomic():
        patched.setattr("tasks_app.dispatch_store.record", full)
        patched.setattr("tasks_app.dispatch_store.connection.close", lambda: None)
        with pytest.raises(StoreUnavailable):
            store.commit([ClaimTask(key, "w1")])
    assert told == []

    def deaf(**_):
        raise ValueError("deaf")

    signals.records_committed.connect(deaf)
    try:
        assert store.commit([ClaimTask(key, "w1")]) == frozenset()
    finally:
        signals.records_committed.disconnect(deaf)
    assert len(told) == 1


def test_histograms_and_counters_agree_with_the_tables(store, add_task):
    """Count and sum of the run times are those of results.duration_ms, whatever comes late or twice."""
    outcomes = ("completed", "failed")
    before = {
        name: {word: sample(f"octaskly_run_seconds_{name}", outcome=word) for word in outcomes}
        for name in ("sum", "count")
    }
    spawned_before = sample("octaskly_spawn_seconds_count", sandbox="strict")
    lost_before = sample("octaskly_attempts_total", outcome="lost", failure_reason="")
    for number in range(20):
        key = AttemptKey(add_task().id, 1)
        report = msgspec.structs.replace(DONE if number % 3 else FAILED, duration_ms=7 * number)
        outcome = RecordOutcome(key, "w1", report, b"", b"", None)
        store.commit([ClaimTask(key, "w1"), RecordStarted(key, "w1"), outcome, outcome])
    lost = AttemptKey(add_task().id, 1)
    given_up = RecordGivenUp(lost, "w1", is_loss=True, detail="gone", retry_delay_s=1.0, failure_reason=None)
    store.commit([ClaimTask(lost, "w1"), given_up])
    store.commit([RecordSuperseded(lost, "w1", DONE, b"", b"")])
    accepted = Result.objects.filter(is_superseded=False, outcome__in=outcomes)
    rows = accepted.values_list("outcome").annotate(count=Count("attempt_id"), total_ms=Sum("duration_ms"))
    assert {word for word, *_ in rows} == set(outcomes)
    for word, count, total_ms in rows:
        assert sample("octaskly_run_seconds_count", outcome=word) - before["count"][word] == count
        summed = sample("octaskly_run_seconds_sum", outcome=word) - before["sum"][word]
        assert summed * 1000 == pytest.approx(total_ms)
    spawned = Result.objects.filter(spawn_seconds=0.25, is_superseded=False).count()
    assert sample("octaskly_spawn_seconds_count", sandbox="strict") - spawned_before == spawned == 13
    assert sample("octaskly_attempts_total", outcome="lost", failure_reason="") - lost_before == 1
    assert Result.objects.get(task_id=lost.task_id).spawn_seconds == 0.25


def test_waiting_tasks_that_are_cancelled_count_as_ended(add_task, user_of, django_capture_on_commit_callbacks):
    """No worker had them in hand, so no attempt tells it; it is told after the commit."""
    tasks = [add_task() for _ in range(3)]
    tally.take()
    with django_capture_on_commit_callbacks(execute=True):
        services.cancel_many(tasks, user_of(Role.ADMIN))
        assert not tally.take().ended
    assert tally.take().ended == {TaskStatus.CANCELLED: 3}
