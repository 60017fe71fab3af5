"""The engine's store on a real SQLite file: compare-and-set on attempts, outcomes once, order of the queue."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from audit_app.models import AuditEntry
from dispatcher.ports import (
    AttemptKey,
    ClaimTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
    WorkerPaused,
)
from octaskly_wire.messages import CapturedOutput, OutcomeReport
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from tasks_app.dispatch_store import READY_QUERY, DispatchStore
from tasks_app.ids import new_task_ids
from tasks_app.models import Result, Task
from workers_app.models import Worker
from workers_app.selectors import worker_status

pytestmark = pytest.mark.django_db

BASIC = (SandboxLevel.BASIC, False)


@pytest.fixture
def store():
    """Return the store; each test calls it from its own thread, as the engine does."""
    return DispatchStore()


@pytest.fixture
def add_task(django_user_model):
    """Return a function that puts a queued task into the database."""
    owner = django_user_model.objects.create_user("owner")

    def add(**changes):
        now = datetime.now(UTC)
        fields = {"command": "true", "sandbox": "basic", "created_at": now, "available_at": now, "owner": owner}
        return Task.objects.create(id=new_task_ids(1)[0], **(fields | changes))

    return add


@pytest.fixture
def add_worker():
    """Return a function that puts an approved worker into the database."""

    def add(worker_id, **changes):
        fields = {
            "name": worker_id,
            "admission": "approved",
            "public_key_sha256": worker_id,
            "created_at": datetime.now(UTC),
        }
        return Worker.objects.create(id=worker_id, **(fields | changes))

    return add


def report(reason=None, exit_code=0, stdout=b""):
    """Return an outcome report."""
    return OutcomeReport(
        failure_reason=reason, exit_code=exit_code, duration_ms=7, sandbox=SandboxLevel.BASIC, backend="spawner",
        cpu_seconds=0.5, max_rss_bytes=1000, limits={"memory": Enforcement.KERNEL},
        stdout=CapturedOutput(total_bytes=len(stdout), kept_bytes=len(stdout), data=stdout),
    )  # fmt: skip


def claim(store, task, number=1, worker_id="w1"):
    """Claim the task's next attempt and return its key."""
    key = AttemptKey(task.id, number)
    assert store.commit([ClaimTask(key, worker_id)]) == frozenset()
    return key


def test_a_commit_is_on_disk_when_it_returns():
    """Every connection of ours has a WAL that is synced at each commit, the engine's thread like those of the web."""

    def look():
        with connection.cursor() as cursor:
            modes = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        connection.close()
        return modes

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(look).result() == ["wal", 2]


def test_claim_is_granted_once(store, add_task):
    """A second claim of the same attempt is refused and leaves no trace."""
    task = add_task()
    key = claim(store, task)
    assert store.commit([ClaimTask(key, "w2")]) == {key}
    task.refresh_from_db()
    assert (task.worker_id, task.attempt, task.status) == ("w1", 1, "queued")
    assert Result.objects.count() == 1


def test_claim_of_cancelled_task_is_refused(store, add_task):
    """A cancel that was committed first wins."""
    task = add_task(status="cancelled")
    key = AttemptKey(task.id, 1)
    assert store.commit([ClaimTask(key, "w1")]) == {key}


def test_whole_life_of_a_task(store, add_task):
    """Claimed, started and finished in one group: task, result and audit agree."""
    task = add_task()
    key = AttemptKey(task.id, 1)
    store.commit(
        [
            ClaimTask(key, "w1"),
            RecordStarted(key, "w1"),
            RecordOutcome(key, "w1", report(stdout=b"hi\xff\n"), b"hi\xff\n", b"", None),
        ]
    )
    task.refresh_from_db()
    assert (task.status, task.exit_code, task.stdout, task.duration_ms) == ("completed", 0, "hi\ufffd\n", 7)
    assert task.assigned_at is None
    assert task.completed_at is not None
    result = Result.objects.get()
    assert (result.outcome, bytes(result.stdout), result.cpu_seconds) == ("completed", b"hi\xff\n", 0.5)
    assert result.limits == {"memory": "kernel"}
    events = list(AuditEntry.objects.filter(task_id=task.id).order_by("id").values_list("event_type", flat=True))
    assert events == ["task_started", "task_finished"]


def test_second_outcome_of_an_attempt_changes_nothing(store, add_task):
    """An outcome that comes twice, even a contradicting one, is recorded once."""
    task = add_task()
    key = claim(store, task)
    store.commit([RecordOutcome(key, "w1", report(), b"", b"", None)])
    store.commit([RecordOutcome(key, "w1", report(FailureReason.EXIT_CODE, 9), b"", b"", None)])
    assert store.commit([RecordSuperseded(key, "w1", report(), b"", b"")]) == frozenset(), "sent twice is no crime"
    assert store.commit([RecordSuperseded(key, "w1", report(FailureReason.EXIT_CODE, 9), b"", b"")]) == {key}
    task.refresh_from_db()
    assert (task.status, task.exit_code) == ("completed", 0)
    assert not Result.objects.get().is_superseded
    alarms = AuditEntry.objects.filter(event_type="outcome_refused")
    assert [json.loads(alarm.details)["detail"] for alarm in alarms] == ["it contradicts the outcome on record"]


@pytest.mark.parametrize(
    "other",
    [
        ({"exit_code": 9, "reason": FailureReason.EXIT_CODE}, b"", b""),
        ({}, b"other", b""),
        ({}, b"", b"moved to the other stream"),
    ],
    ids=["report", "stdout", "stderr"],
)
def test_any_difference_contradicts(store, add_task, other):
    """Report and both outputs belong to what is compared."""
    key = claim(store, add_task())
    store.commit([RecordOutcome(key, "w1", report(), b"", b"", None)])
    facts, stdout, stderr = other
    assert store.commit([RecordSuperseded(key, "w1", report(**facts), stdout, stderr)]) == {key}


def test_outcome_of_a_foreign_attempt_is_refused(store, add_task):
    """A worker cannot speak for an attempt that was given to another, or to nobody."""
    key = claim(store, add_task())
    store.commit([RecordGivenUp(key, "w1", True, "silent", 0.0)])
    nobodys = AttemptKey("no-such-task", 1)
    late = [RecordSuperseded(key, "w2", report(), b"", b""), RecordSuperseded(nobodys, "w1", report(), b"", b"")]
    assert store.commit(late) == {key, nobodys}
    assert not Result.objects.get().is_superseded
    assert AuditEntry.objects.filter(event_type="outcome_refused").count() == 2


def test_late_outcome_told_twice_is_kept_once(store, add_task):
    """The repetition of a late outcome is acknowledged; a different one is refused."""
    key = claim(store, add_task())
    store.commit([RecordGivenUp(key, "w1", True, "silent", 0.0)])
    late = RecordSuperseded(key, "w1", report(stdout=b"late"), b"late", b"")
    assert store.commit([late, late]) == frozenset()
    assert store.commit([RecordSuperseded(key, "w1", report(stdout=b"else"), b"else", b"")]) == {key}
    assert bytes(Result.objects.get().stdout) == b"late"
    assert AuditEntry.objects.filter(event_type="outcome_superseded").count() == 1


@pytest.mark.parametrize("was_reported", [True, False])
def test_a_loss_told_of_what_is_over_changes_nothing(store, add_task, was_reported):
    """A spooled outcome may be damaged after it was recorded and before its acknowledgement came: no alarm."""
    task = add_task(max_retries=0)
    key = claim(store, task)
    ending = (
        RecordOutcome(key, "w1", report(stdout=b"hi"), b"hi", b"", None)
        if was_reported
        else RecordGivenUp(key, "w1", True, "silent", 0.0)
    )
    store.commit([ending])
    before = Result.objects.values().get(), Task.objects.values().get()
    loss = RecordSuperseded(key, "w1", report(FailureReason.WORKER_LOST, None), b"", b"")
    assert store.commit([loss]) == frozenset()
    assert (Result.objects.values().get(), Task.objects.values().get()) == before
    assert not AuditEntry.objects.filter(event_type__in=["outcome_refused", "outcome_superseded"]).exists()
    foreign = RecordSuperseded(key, "w2", report(FailureReason.WORKER_LOST, None), b"", b"")
    assert store.commit([foreign]) == {key}


def test_engine_suspends_only_approved_workers(store, add_worker):
    """The reason stands with the worker and in the audit; a pending one stays as it is."""
    approved, pending = add_worker("a"), add_worker("p", admission="pending")
    store.commit([SuspendWorker(approved.id, "5 failures"), SuspendWorker(pending.id, "5 failures")])
    approved.refresh_from_db()
    pending.refresh_from_db()
    assert (approved.admission, approved.admission_reason, pending.admission) == ("suspended", "5 failures", "pending")
    [entry] = AuditEntry.objects.filter(event_type="worker_suspended")
    assert (entry.actor, entry.worker_id, json.loads(entry.details)["reason"]) == ("engine", approved.id, "5 failures")


def test_pause_is_shown_until_it_ends(store, add_worker):
    """Why a worker takes nothing stands in its row and in the reasons of waiting tasks."""
    worker = add_worker("a", is_connected=True)
    store.commit([WorkerPaused(worker.id, "12 MB free")])
    worker.refresh_from_db()
    assert (worker.pause_reason, worker_status(worker)) == ("12 MB free", "paused")
    store.commit([WorkerPaused(worker.id, "")])
    worker.refresh_from_db()
    assert worker_status(worker) == "connected"


def test_late_outcome_stays_on_the_attempt(store, add_task):
    """After the attempt was given up its outcome is kept on the result row only."""
    task = add_task()
    key = claim(store, task)
    store.commit([RecordGivenUp(key, "w1", True, "silent", 0.0)])
    store.commit([RecordSuperseded(key, "w1", report(FailureReason.EXIT_CODE, 9), b"late", b"")])
    task.refresh_from_db()
    assert (task.status, task.exit_code, task.losses, task.failures) == ("queued", None, 1, 0)
    result = Result.objects.get()
    assert (result.outcome, result.is_superseded, result.exit_code) == ("lost", True, 9)


def test_failed_attempt_is_queued_again_after_its_pause(store, add_task):
    """A retry is not ready before its delay is over and counts as a failure."""
    task = add_task(max_retries=1)
    key = claim(store, task)
    store.commit([RecordOutcome(key, "w1", report(FailureReason.EXIT_CODE, 1), b"", b"", 60.0)])
    task.refresh_from_db()
    assert (task.status, task.failures, task.worker_id) == ("queued", 1, None)
    assert store.fetch_ready([BASIC], 10) == []
    Task.objects.update(available_at=datetime.now(UTC) - timedelta(seconds=1))
    (ready,) = store.fetch_ready([BASIC], 10)
    assert (ready.attempt, ready.failures) == (1, 1)


def test_cancelled_task_is_not_queued_again(store, add_task):
    """A cancel wished for while the attempt failed stands above the retry."""
    task = add_task(max_retries=1)
    key = claim(store, task)
    Task.objects.update(cancel_requested_at=datetime.now(UTC))
    store.commit([RecordOutcome(key, "w1", report(FailureReason.EXIT_CODE, 1), b"", b"", 1.0)])
    task.refresh_from_db()
    assert (task.status, task.failure_reason) == ("cancelled", "cancelled")
    assert list(AuditEntry.objects.values_list("event_type", flat=True)) == ["task_finished"]


def test_what_follows_a_refused_claim_leaves_no_trace(store, add_task):
    """The engine may give an attempt up before it hears that it was never granted."""
    task = add_task(cancel_requested_at=datetime.now(UTC), status="cancelled")
    key = AttemptKey(task.id, 1)
    given_up = RecordGivenUp(key, "w1", True, "the worker came back without it", 0.0)
    assert store.commit([ClaimTask(key, "w1"), given_up]) == {key}
    task.refresh_from_db()
    assert (task.status, task.attempt, task.losses) == ("cancelled", 0, 0)
    assert not AuditEntry.objects.exists()


def test_cancelled_task_whose_command_failed_is_cancelled(store, add_task):
    """The kill may show as a failure of the command; the wish decides."""
    task = add_task()
    key = claim(store, task)
    Task.objects.update(cancel_requested_at=datetime.now(UTC))
    store.commit([RecordOutcome(key, "w1", report(FailureReason.SIGNAL, None), b"", b"", None)])
    task.refresh_from_db()
    assert task.status == "cancelled"


def test_lost_five_times_fails(store, add_task):
    """The engine's last word on a poison task reaches the row."""
    task = add_task(losses=4)
    key = claim(store, task)
    store.commit([RecordGivenUp(key, "w1", True, "silent", None, FailureReason.WORKER_LOST)])
    task.refresh_from_db()
    assert (task.status, task.failure_reason, task.losses) == ("failed", "worker_lost", 5)


def test_queue_is_ordered_by_priority_then_age(store, add_task):
    """The head of the queue is what should run next, class by class, up to the limit."""
    old = add_task()
    high = add_task(priority=5)
    add_task()
    add_task(sandbox="strict", priority=100)
    add_task(assigned_at=datetime.now(UTC), attempt=1, priority=100)
    assert [task.task_id for task in store.fetch_ready([BASIC], 2)] == [high.id, old.id]


def test_a_clock_that_is_set_back_holds_no_task_up(store, add_task):
    """A new task is due whatever its time says; a pause that ends later than any pause can is over."""
    an_hour_ahead, soon = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (3600, 60))
    new = add_task(available_at=soon)
    paused_before = add_task(available_at=an_hour_ahead, attempt=1, failures=1)
    add_task(available_at=soon, attempt=1, failures=1)
    assert [task.task_id for task in store.fetch_ready([BASIC], 9)] == [new.id, paused_before.id]


def test_queue_head_is_read_from_the_index(add_task):
    """A million queued tasks must not be sorted for each look: the partial index serves the order."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {READY_QUERY}", ["basic", False, "2999-01-01", "2999-01-02", 5])
        plan = " ".join(str(row) for row in cursor.fetchall())
    assert "tasks_ready" in plan
    assert "TEMP B-TREE" not in plan


def test_live_attempts_are_recovered(store, add_task):
    """After a restart the engine finds what was live, with the number of the live attempt."""
    task = add_task()
    key = claim(store, task)
    store.commit([RecordStarted(key, "w1")])
    Task.objects.update(cancel_requested_at=datetime.now(UTC))
    (recovered,) = store.recover()
    assert (recovered.task.task_id, recovered.number, recovered.worker_id) == (task.id, 1, "w1")
    assert (recovered.is_started, recovered.is_cancel_requested) == (True, True)
    assert recovered.task.attempt == 0


def test_outcome_without_start_counts_as_started(store, add_task):
    """A short command's start and end may arrive as one fact."""
    task = add_task()
    key = claim(store, task)
    store.commit([RecordOutcome(key, "w1", report(), b"", b"", None)])
    task.refresh_from_db()
    assert task.started_at is not None


def test_large_output_is_cut_in_the_row_and_whole_in_the_result(store, add_task):
    """The task row shows the first and last 32 KiB and says so."""
    task = add_task()
    key = claim(store, task)
    data = b"a" * 100_000 + b"z" * 100_000
    store.commit([RecordOutcome(key, "w1", report(stdout=b""), data, b"", None)])
    task.refresh_from_db()
    assert task.stdout_truncated
    assert task.stdout.startswith("a" * 32768)
    assert task.stdout.endswith("z" * 32768)
    assert bytes(Result.objects.get().stdout) == data
