"""The engine's store on a real SQLite file: compare-and-set on attempts, outcomes once, order of the queue.

Long because it is a list: one small case after the other, all of one store over the same few rows.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from django.db import connection

from accounts_app.plain_sql import read
from audit_app.models import AuditEntry
from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import FetchFitting, FetchReady
from dispatcher.core.events import WorkerJoined
from dispatcher.core.reactor import Reactor
from dispatcher.ports import (
    AttemptKey,
    Ceiling,
    ClaimTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
    WorkerConnected,
    WorkerPaused,
)
from octaskly_wire.messages import CapturedOutput, Limits, OutcomeReport, Register
from octaskly_wire.vocabulary import Admission, Enforcement, FailureReason, SandboxLevel
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import FITTING_QUERY, READY_QUERY, DispatchStore
from tasks_app.ids import new_task_ids
from tasks_app.models import Result, Task
from tasks_app.worker_views import worker_views
from tests.support.messages import FROM_WORKER
from workers_app.models import Worker
from workers_app.selectors import worker_status

pytestmark = pytest.mark.django_db

BASIC = (SandboxLevel.BASIC, False)


@pytest.fixture
def store(tmp_path):
    """Return the store; each test calls it from its own thread, as the engine does."""
    return DispatchStore(BlobStore(tmp_path / "blobs", max_bytes=1 << 30, reserve_bytes=0))


@pytest.fixture
def add_task(django_user_model):
    """Return a function that puts a queued task into the database."""
    owner = django_user_model.objects.create_user("owner")

    def add(**changes):
        now = datetime.now(UTC)
        fields = {"command": "true", "sandbox": "basic", "created_at": now, "available_at": now, "owner": owner}
        fields |= changes
        asked = {f"asked_{name}": number for name, number in fields.get("limits", {}).items()}
        task = Task(id=new_task_ids(1)[0], **fields, **asked)
        task.save(force_insert=True)
        return task

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
    assert not task.is_paused
    result = Result.objects.get()
    assert (result.outcome, result.is_superseded, result.exit_code) == ("lost", True, 9)


def test_failed_attempt_is_queued_again_after_its_pause(store, add_task):
    """A retry is not ready before its delay is over and counts as a failure."""
    task = add_task(max_retries=1)
    key = claim(store, task)
    store.commit([RecordOutcome(key, "w1", report(FailureReason.EXIT_CODE, 1), b"", b"", 60.0)])
    task.refresh_from_db()
    assert (task.status, task.failures, task.worker_id, task.is_paused) == ("queued", 1, None, True)
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


@pytest.mark.parametrize(("query", "bounds"), [(READY_QUERY, []), (FITTING_QUERY, [1, 2, 3, 4, 5, 6])])
def test_queue_head_is_read_from_the_index(add_task, query, bounds):
    """A million queued tasks must not be sorted for each look: the partial index serves the order."""
    parameters = ["basic", False, "2999-01-01", "2999-01-02", *bounds, 5]
    plan = " ".join(str(row) for row in read(f"EXPLAIN QUERY PLAN {query}", parameters))
    assert "tasks_ready" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("too_much", "ceiling"),
    [
        *(({"limits": {name: 9}}, Ceiling(Limits(**{name: 8}))) for name in Limits.__struct_fields__),
        ({"timeout_s": 9000}, Ceiling(timeout_s=8000)),
    ],
    ids=str,
)
def test_what_fits_is_found_behind_what_does_not(store, add_task, too_much, ceiling):
    """Best first, up to the limit; what asks for nothing, and what asks for as much as is allowed, fits."""
    for _ in range(20):
        add_task(priority=9, **too_much)
    small, at_the_cap = add_task(), add_task(limits=dict.fromkeys(too_much.get("limits", {}), 8), priority=1)
    add_task()
    add_task(network=True, priority=99)
    assert [task.task_id for task in store.fetch_fitting(BASIC, ceiling, 2)] == [at_the_cap.id, small.id]
    assert len(store.fetch_fitting(BASIC, Ceiling(), 100)) == 23


def test_a_look_behind_the_head_sees_what_is_queued_only(store, add_task):
    """Not what runs, was cancelled or pauses; and the wish comes along."""
    add_task(assigned_at=datetime.now(UTC), attempt=1)
    add_task(status="cancelled")
    add_task(available_at=datetime.now(UTC) + timedelta(seconds=60), attempt=1)
    add_task(limits={"memory_mb": 5, "disk_mb": 6})
    (found,) = store.fetch_fitting(BASIC, Ceiling(Limits(memory_mb=(1 << 63) - 1)), 9)
    assert found.limits == Limits(memory_mb=5, disk_mb=6)


def test_small_tasks_behind_a_thousand_large_ones_are_given_out(store, add_task):
    """Engine and database together: what no worker can run stays, what stands behind it runs in its order."""
    large = add_task(limits={"memory_mb": 65_536})
    rows = [Task(**{f.name: getattr(large, f.name) for f in Task._meta.fields} | {"id": i}) for i in new_task_ids(999)]
    Task.objects.bulk_create(rows)
    small = [add_task().id for _ in range(5)]
    reactor = Reactor(EngineConfig())
    everything = {
        "boot_id": "b", "slots": 5, "levels": frozenset(SandboxLevel), "allows_network": True,
        "memory_mb": 8192, "admission": Admission.APPROVED, "is_draining": False,
    }  # fmt: skip
    effects = reactor.on_worker_joined(WorkerJoined("w1", 1, **everything), 0.0)
    given = []
    while effects:
        effect = effects.pop(0)
        if isinstance(effect, ClaimTask):
            assert store.commit([effect]) == frozenset()
            given.append(effect.key.task_id)
        elif isinstance(effect, FetchReady):
            tasks = store.fetch_ready(effect.classes, effect.limit)
            effects += reactor.on_ready_fetched(effect.classes, tasks, effect.limit)
        elif isinstance(effect, FetchFitting):
            tasks = store.fetch_fitting(effect.task_class, effect.ceiling, effect.limit)
            effects += reactor.on_fitting_fetched(effect.task_class, effect.ceiling, tasks, effect.limit)
    assert given == small


def test_caps_and_missing_levels_are_kept_with_the_worker(store, add_worker):
    """Only caps that there are; each level that is not offered with its reason."""
    worker = add_worker("a")
    registration = next(message for message in FROM_WORKER if isinstance(message, Register))
    registration = msgspec.structs.replace(registration, max_limits=Limits(memory_mb=4096, processes=64))
    store.commit([WorkerConnected(worker.id, "b", "10.0.0.7", "tcp", "0.1.0", registration)])
    worker.refresh_from_db()
    assert worker.max_limits == {"memory_mb": 4096, "processes": 64, "timeout_s": 3600}
    assert worker.levels_unproven[1] == {
        "level": "strict", "reason": "user namespaces are forbidden", "is_below_floor": False,
    }  # fmt: skip
    (view,) = worker_views(for_operators=True)
    assert (view.max_limits, view.max_timeout_s) == (Limits(memory_mb=4096, processes=64), 3600)
    assert view.unproven == registration.unproven
    store.commit(
        [
            WorkerConnected(
                worker.id,
                "b",
                "",
                "tcp",
                "",
                msgspec.structs.replace(registration, max_limits=Limits(), max_timeout_s=None),
            )
        ]
    )
    worker.refresh_from_db()
    assert worker.max_limits == {}


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
