"""Attempts whose starts and ends come in one commit leave the rows that many commits leave."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from dispatcher.ports import AttemptKey, ClaimTask, RecordGivenUp, RecordOutcome, RecordStarted
from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tasks_app import signals
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import DispatchStore
from tasks_app.ids import new_task_ids
from tasks_app.models import Result, Task
from tests.support.hearing import hearing

pytestmark = pytest.mark.django_db

DONE = OutcomeReport(None, 0, 1500, SandboxLevel.STRICT, "test", spawn_seconds=0.25)
FAILED = OutcomeReport(FailureReason.EXIT_CODE, 1, 250, SandboxLevel.BASIC, "test")
UNLIKE = ("id", "task_id", "attempt_id", "created_at", "available_at", "assigned_at", "started_at", "completed_at")


@pytest.fixture
def store(tmp_path):
    """Return a store."""
    return DispatchStore(BlobStore(tmp_path / "blobs", max_bytes=1 << 30, reserve_bytes=0))


@pytest.fixture
def claimed(store, queued):
    """Return a function that makes a task with a live attempt and returns the attempt's key."""

    def claim():
        key = queued()
        store.commit([ClaimTask(key, "w1")])
        return key

    return claim


@pytest.fixture
def queued(user_of):
    """Return a function that makes a task and returns the key of its first attempt."""
    owner = user_of(Role.CLIENT)

    def make():
        now = datetime.now(UTC)
        fields = {"command": "true", "sandbox": "basic", "created_at": now, "available_at": now, "owner": owner}
        return AttemptKey(Task.objects.create(id=new_task_ids(1)[0], **fields).id, 1)

    return make


def left_of(key):
    """Return what stands of an attempt in the tables, but for times and ids; and which times there are."""
    rows = [
        Task.objects.filter(id=key.task_id).values().get(),
        Result.objects.filter(task_id=key.task_id).values().get(),
    ]
    times = [[row[name] is not None for name in UNLIKE if name in row] for row in rows]
    rest = [{name: value for name, value in row.items() if name not in UNLIKE} for row in rows]
    return (
        rest,
        times,
        list(AuditEntry.objects.filter(task_id=key.task_id).order_by("id").values_list("event_type", "details")),
    )


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize(("report", "retry_delay_s"), [(DONE, None), (FAILED, None), (FAILED, 5.0)])
def test_together_and_apart_leave_the_same(store, claimed, report, retry_delay_s, is_cancelled):
    """Also when the end is a failure, one to be tried again, or comes upon a wish to cancel; others stand between."""
    together, apart, other = claimed(), claimed(), claimed()
    if is_cancelled:
        Task.objects.update(cancel_requested_at=datetime.now(UTC))
    start, end = (RecordStarted(apart, "w1"), RecordOutcome(apart, "w1", report, b"out", b"", retry_delay_s))
    store.commit([start])
    store.commit([end])
    store.commit(
        [
            RecordStarted(together, "w1"),
            RecordStarted(other, "w1"),
            RecordOutcome(together, "w1", report, b"out", b"", retry_delay_s),
        ]
    )
    assert left_of(together) == left_of(apart)
    assert Result.objects.get(task_id=other.task_id).state == "running"


def test_what_was_told_before_is_not_told_again(store, claimed):
    """A start that comes once more with the end changes nothing of the first; after the end neither does anything."""
    key = claimed()
    with hearing(signals.records_committed, "measured") as heard:
        store.commit([RecordStarted(key, "w1")])
        started_at = Task.objects.get(id=key.task_id).started_at
        both = [RecordStarted(key, "w1"), RecordOutcome(key, "w1", DONE, b"", b"", None)]
        store.commit(both)
        store.commit(both)
    told = [(len(measured.queue_wait_seconds), len(measured.outcomes), measured.ended) for measured in heard]
    assert told == [(1, 0, ()), (0, 1, ("completed",)), (0, 0, ())]
    assert Task.objects.get(id=key.task_id).started_at == started_at
    assert [event for event, _ in left_of(key)[2]] == ["task_started", "task_finished"]


def test_what_stands_between_start_and_end_keeps_its_place(store, claimed):
    """An attempt that was given up after its start is not brought back by an outcome behind that."""
    key = claimed()
    store.commit(
        [
            RecordStarted(key, "w1"),
            RecordGivenUp(key, "w1", is_loss=True, detail="gone", retry_delay_s=0.0),
            RecordOutcome(key, "w1", DONE, b"", b"", None),
        ]
    )
    assert Task.objects.get(id=key.task_id).status == "queued"
    assert [event for event, _ in left_of(key)[2]] == ["task_started", "task_requeued"]


def test_many_together_and_each_alone_leave_the_same(store, claimed):
    """However many ends come in one commit, with whatever outcome and output, each is its own."""
    kinds = [
        (DONE, b"", b"", None),
        (DONE, b"out", b"", None),
        (FAILED, b"", b"err", None),
        (FAILED, b"", b"", 5.0),
        (OutcomeReport(None, 0, 7, SandboxLevel.BASIC, "test", spawn_seconds=0.5, max_rss_bytes=4096), b"", b"", None),
    ]
    ends = [kinds[number % len(kinds)] for number in range(60)]
    together, alone = [claimed() for _ in ends], [claimed() for _ in ends]
    records = [
        (RecordStarted(key, "w1"), RecordOutcome(key, "w1", *end))
        for keys in (together, alone)
        for key, end in zip(keys, ends, strict=True)
    ]
    store.commit([record for pair in records[: len(ends)] for record in pair])
    for pair in records[len(ends) :]:
        store.commit(pair)
    for one, other in zip(together, alone, strict=True):
        assert left_of(one) == left_of(other)


def test_of_many_claims_each_is_granted_or_refused(store, queued):
    """What was cancelled, or asked to be, is refused and has no result; all others are live."""
    keys = [queued() for _ in range(60)]
    Task.objects.filter(id__in=[key.task_id for key in keys[::7]]).update(status="cancelled")
    Task.objects.filter(id=keys[1].task_id).update(cancel_requested_at=datetime.now(UTC))
    refused = {*keys[::7], keys[1]}
    assert store.commit([ClaimTask(key, f"w{key.task_id[-1]}") for key in keys]) == refused
    assert Task.objects.filter(assigned_at__isnull=False, attempt=1).count() == len(keys) - len(refused)
    given = Result.objects.values_list("task_id", "worker_id")
    assert dict(given) == {key.task_id: f"w{key.task_id[-1]}" for key in keys if key not in refused}


def test_all_that_one_commit_says_of_a_task_is_taken_in_order(store, queued):
    """Two attempts of one task, the second claimed behind the end of the first; another one is given up unstarted."""
    first, given_up = queued(), queued()
    second = AttemptKey(first.task_id, 2)
    refused = store.commit(
        [
            ClaimTask(first, "w1"),
            ClaimTask(given_up, "w1"),
            RecordStarted(first, "w1"),
            RecordOutcome(first, "w1", FAILED, b"", b"", 0.0),
            ClaimTask(second, "w2"),
            RecordGivenUp(given_up, "w1", is_loss=True, detail="gone", retry_delay_s=0.0),
            RecordStarted(second, "w2"),
            RecordOutcome(second, "w2", DONE, b"", b"", None),
            ClaimTask(AttemptKey(first.task_id, 3), "w1"),
        ]
    )
    assert refused == {AttemptKey(first.task_id, 3)}
    assert list(Result.objects.order_by("attempt_id").values_list("attempt_id", "outcome")) == [
        (first.attempt_id, "failed"),
        (second.attempt_id, "completed"),
        (given_up.attempt_id, "lost"),
    ]
    told = AuditEntry.objects.filter(task_id=first.task_id).order_by("id").values_list("event_type", flat=True)
    assert list(told) == ["task_started", "task_requeued", "task_started", "task_finished"]
    assert (Task.objects.get(id=first.task_id).status, Task.objects.get(id=given_up.task_id).status) == (
        "completed",
        "queued",
    )
