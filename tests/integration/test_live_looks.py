"""What the looks for live events see, on a real database, and that they stay quick when there is much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.core.asgi import get_asgi_application
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from audit_app.trail import AuditEvent, record
from dashboard_app.live.looks import FIRST_EVENTS, MAX_ENDED, MAX_LIVE, MAX_NEW_EVENTS, MAX_QUEUED, Looker
from dashboard_app.live.scope import Scope
from dispatcher.ports import WorkerPaused
from octaskly_site.live.application import LiveApplication
from tasks_app import services
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import DispatchStore
from tasks_app.feed import Watch, feed
from tasks_app.ids import new_task_ids
from tasks_app.models import Task
from tasks_app.submission import TaskSpec
from workers_app.models import Worker
from workers_app.services import drain

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEALTH = SimpleNamespace(is_accepting=lambda: True, read_only_reason=lambda: None)


@pytest.fixture
def alice(user_of):
    """Return a client."""
    return user_of(Role.CLIENT, "alice")


@pytest.fixture
def bob(user_of):
    """Return another."""
    return user_of(Role.CLIENT, "bob")


@pytest.fixture
def worker():
    """Return a connected worker with some load."""
    vitals = {
        "cpu_percent": 12.5, "memory_total_bytes": 8, "memory_available_bytes": 5, "disk_free_bytes": 7, "load_1m": 0.5,
    }  # fmt: skip
    return add_worker("w1", slots=4, vitals=vitals, levels=[{"level": "basic", "backend": "x", "gaps": []}])


def add_worker(worker_id: str, **changes) -> Worker:
    """Put an approved, connected worker into the database."""
    fields = {
        "name": f"pc-{worker_id}", "admission": "approved", "public_key_sha256": worker_id, "created_at": NOW,
        "is_connected": True, "connected_at": NOW,
    }  # fmt: skip
    return Worker.objects.create(id=worker_id, **(fields | changes))


def add_hundred_workers() -> None:
    """Put in those that `fill` gives its tasks to."""
    for number in range(100):
        add_worker(f"w{number}", slots=16)


def looker(user=None) -> Looker:
    """Look as this user, or as an operator."""
    return Looker(Scope(user and user.pk), HEALTH)


def submit(owner, *commands: str, **fields) -> list[str]:
    """Submit tasks and return their ids."""
    return [task.id for task in services.submit(owner, [TaskSpec(command=text, **fields) for text in commands])]


def run_on(worker_id: str, task_id: str, **changes) -> None:
    """Put a task on a worker, as the engine does."""
    fields = {"status": "running", "worker_id": worker_id, "attempt": 1, "assigned_at": NOW, "started_at": NOW}
    Task.objects.filter(id=task_id).update(**(fields | changes))


def test_operators_see_workers_tasks_and_the_trail(alice, worker):
    """In the words of the protocol, with names in place of ids where people read them."""
    running, queued = submit(alice, "echo " + "x" * 300, "true")
    run_on("w1", running)
    add_worker("w2", slots=9, admission="pending", is_connected=False, connected_at=None)
    seen = looker().look()
    assert seen.summary["tasks"] == {"queued": 1, "running": 1, "completed": 0, "failed": 0, "cancelled": 0}
    assert seen.summary["workers"] == {"total": 2, "active": 1, "idle": 0}
    assert seen.summary["slots"] == {"used": 1, "total": 4}
    assert seen.summary["system"].keys() == {"uptime_seconds", "cpu_percent", "memory_mb", "database_mb"}
    assert (seen.summary["is_accepting"], seen.summary["read_only_reason"]) == (True, None)
    assert seen.tasks[running] == {
        "id": running, "name": "", "command": ("echo " + "x" * 300)[:200], "status": "running", "owner": "alice",
        "worker_id": "w1", "worker_name": "pc-w1", "attempt": 1, "created_at": seen.tasks[queued]["created_at"],
        "started_at": "2026-01-01T00:00:00Z", "completed_at": None, "exit_code": None, "duration_ms": None,
        "failure_reason": None, "cancel_requested": False, "priority": 0, "timeout_s": 3600,
    }  # fmt: skip
    assert seen.workers["w1"] == {
        "id": "w1", "name": "pc-w1", "status": "connected", "status_text": "connected", "slots": 4, "slots_used": 1,
        "cpu_count": 0, "cpu_percent": 12.5, "memory_total_bytes": 0, "memory_available_bytes": 5,
        "disk_free_bytes": 7, "load_1m": 0.5, "round_trip_ms": None, "levels": ["basic"], "allows_network": False,
        "address": "", "platform": "", "last_seen_at": None, "connected_at": "2026-01-01T00:00:00Z",
        "admission": "approved", "is_draining": False,
    }  # fmt: skip
    assert seen.workers["w2"]["status_text"] == "pending: waits for approval"
    assert [(event["event_type"], event["task_id"], event["text"]) for event in seen.events] == [
        ("task_submitted", running, "alice submitted the task"),
        ("task_submitted", queued, "alice submitted the task"),
    ]


def test_clients_see_their_own_tasks_and_nothing_of_the_cluster(alice, bob, worker):
    """Neither workers, nor the trail, nor what others do, not even as a number."""
    [own], [foreign] = submit(alice, "true"), submit(bob, "false")
    run_on("w1", own)
    run_on("w1", foreign)
    seen = looker(alice).look()
    assert seen.tasks.keys() == {own}
    assert seen.tasks[own]["worker_name"] == "pc-w1"
    assert (seen.workers, seen.events, seen.point) == (None, [], None)
    assert seen.summary == {
        "tasks": {"queued": 0, "running": 1, "completed": 0, "failed": 0, "cancelled": 0},
        "is_accepting": True,
        "read_only_reason": None,
    }


def test_events_are_told_once_and_a_flood_of_them_is_cut(alice):
    """The newest ones are told, oldest first."""
    look = looker()
    submit(alice, *["true"] * 200)
    first = [event["id"] for event in look.look().events]
    newest = AuditEntry.objects.latest("id").id
    assert first == list(range(newest - FIRST_EVENTS + 1, newest + 1))
    assert look.look().events == []
    submit(alice, *["true"] * 200)
    assert [event["id"] for event in look.look().events] == list(range(newest + 201 - MAX_NEW_EVENTS, newest + 201))


def test_the_tasks_that_ended_last_are_shown_however_old_they_are(alice, user_of):
    """To operators and to their owner alike; one that is queued again is shown as that."""
    admin = user_of(Role.ADMIN)
    old, again = submit(alice, "old", "again")
    run_on("w1", old)
    everything, own = looker(), looker(alice)
    assert everything.look().tasks[old]["status"] == own.look().tasks[old]["status"] == "running"
    for task_id in submit(alice, *["new"] * 40):
        services.cancel(Task.objects.get(id=task_id), admin)
    services.cancel(Task.objects.get(id=again), admin)
    services.retry(Task.objects.get(id=again), admin)
    finish(old)
    for look in (everything, own):
        seen = look.look().tasks
        ended = [task for task in seen.values() if task["completed_at"]]
        assert (seen[old]["status"], seen[again]["status"], len(ended)) == ("completed", "queued", MAX_ENDED)
    # A watcher who comes only now has what the trail says.
    assert looker().look().tasks[old]["status"] == "completed"


def finish(task_id: str) -> None:
    """End a task as the engine does: with its entry in the trail."""
    with transaction.atomic():
        changes = {"status": "completed", "assigned_at": None, "completed_at": datetime.now(UTC), "exit_code": 0}
        Task.objects.filter(id=task_id).update(**changes)
        record(AuditEvent("task_finished", "engine", "w1", task_id))


def test_the_head_of_the_queue_is_shown(alice):
    """By priority and age, over all levels, and not more of it than is said."""
    low = submit(alice, *["low"] * MAX_QUEUED, sandbox="basic")
    high = submit(alice, "high", "higher", priority=5, sandbox="strict", network=True)
    assert looker().look().tasks.keys() == {*high, *low[:-2]}
    assert len(looker(alice).look().tasks) == MAX_QUEUED


def test_whoever_watches_is_woken_by_each_kind_of_change(alice, worker, tmp_path, django_capture_on_commit_callbacks):
    """After its commit, be it of a task or of a worker, by people or by the engine."""
    loop = asyncio.new_event_loop()
    store = DispatchStore(BlobStore(tmp_path / "blobs", max_bytes=1 << 20, reserve_bytes=0))
    live = LiveApplication(get_asgi_application())

    async def watch_all() -> tuple[ExitStack, Watch]:
        stack = ExitStack()
        return stack, stack.enter_context(feed.watch_all())

    stack, watch = loop.run_until_complete(watch_all())

    def is_told_by(change: Callable[[], object]) -> bool:
        watch.forget()
        with django_capture_on_commit_callbacks(execute=True):
            change()
        loop.run_until_complete(asyncio.sleep(0))
        return watch.is_told

    with stack:
        assert is_told_by(lambda: submit(alice, "true"))
        task = Task.objects.get()
        assert is_told_by(lambda: services.cancel(task, alice))
        assert is_told_by(lambda: services.retry(task, alice))
        run_on("w1", task.id)
        assert is_told_by(lambda: services.cancel(task, alice))
        assert is_told_by(lambda: store.commit([WorkerPaused("w1", "the disk is full")]))
        assert is_told_by(lambda: drain(worker, alice))
        assert not is_told_by(lambda: None)
    loop.run_until_complete(live.close())
    loop.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"admission": "suspended", "admission_reason": "five failures"}, "suspended: five failures"),
        ({"admission": "revoked"}, "revoked"),
        ({"is_draining": True}, "draining: takes nothing new"),
        ({"has_begun_drain": True}, "draining: it is stopping"),
        ({"pause_reason": "the disk is full"}, "paused: the disk is full"),
        ({"is_connected": False}, "disconnected"),
        ({"is_connected": False, "connected_at": None}, "disconnected: it has never connected"),
    ],
)
def test_a_worker_says_in_plain_words_how_it_is(changes, text):
    """With the reason, where there is one."""
    add_worker("w", **changes)
    assert looker().look().workers["w"]["status_text"] == text


def test_a_look_walks_indexes_only(alice, bob):
    """No statement reads all rows of the tasks or of the trail, or sorts more of them than are on workers."""
    add_hundred_workers()
    fill(alice, bob, tasks=100)
    for look in (looker(), looker(alice)):
        look.look()
        with CaptureQueriesContext(connection) as captured:
            look.look()
        for query in captured.captured_queries:
            sql = query["sql"]
            plan = plan_of(sql) if sql.startswith("SELECT") and 'FROM "workers"' not in sql else []
            walked = [step for step in plan if step.startswith("SCAN")]
            # Live attempts are as many as workers hold, counts as many as there are owners, and of pauses the first count.
            short = {"SCAN task_counts", "SCAN tasks USING INDEX tasks_live", "SCAN tasks USING INDEX tasks_paused"}
            assert short.issuperset(walked), (sql, plan)
            assert "TEMP B-TREE" not in " ".join(plan) or "tasks_live" in " ".join(plan), (sql, plan)


def test_a_look_costs_the_same_however_much_there_is(alice, bob):
    """With 400 running tasks and 100 workers: five times as many others, half of them of one client, cost nothing.

    Counted in what SQLite's machine does, which is the same on a busy machine.
    """
    add_hundred_workers()
    fill(alice, bob, tasks=3_600, running_each=9)
    lookers = {"operators": looker(), "a client": looker(alice)}
    steps = {name: steps_of(look) for name, look in lookers.items()}
    fill(alice, bob, tasks=14_400, running_each=0, after=3_600)
    for name, look in lookers.items():
        assert 0 < steps_of(look) < 1.1 * steps[name], name


def steps_of(look: Looker) -> int:
    """Return how many hundreds of instructions SQLite runs for a look that shows all that one shows at most."""
    count = 0

    def on_progress() -> None:
        nonlocal count
        count += 1

    look.look()
    driver = connection.connection
    driver.set_progress_handler(on_progress, 100)
    try:
        seen = look.look()
    finally:
        driver.set_progress_handler(None, 0)
    assert len(seen.tasks) == MAX_LIVE + MAX_QUEUED + MAX_ENDED
    return count


def plan_of(sql: str) -> list[str]:
    """Return how SQLite would go about it."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return [row[3] for row in cursor.fetchall()]


def fill(alice, bob, *, tasks: int, running_each: int = 64, after: int = 0) -> None:
    """Put in tasks of which half are alice's, on a hundred workers; each so many runs, half wait, the others have ended."""
    ids = new_task_ids(tasks)
    statuses = ["completed", "failed", "queued", "queued"]

    def task(number: int, task_id: str) -> Task:
        status = "running" if running_each and number % running_each == 0 else statuses[number % 4]
        is_running, is_ended = status == "running", status in {"completed", "failed"}
        moment = NOW + timedelta(seconds=number)
        return Task(
            id=task_id, command="true" * 20, owner=(alice, bob)[number % 2], sandbox="strict", status=status,
            created_at=moment, available_at=moment, attempt=int(status != "queued"),
            worker_id=None if status == "queued" else f"w{number % 100}",
            assigned_at=moment if is_running else None, started_at=moment if is_running or is_ended else None,
            completed_at=moment if is_ended else None,
        )  # fmt: skip

    Task.objects.bulk_create((task(number, task_id) for number, task_id in enumerate(ids, after)), batch_size=500)
    AuditEntry.objects.bulk_create(
        (
            AuditEntry(
                id=number + 1, timestamp=NOW, event_type="task_finished", actor="engine", task_id=task_id,
                details="{}", previous_hash="", hash="",
            )
            for number, task_id in enumerate(ids, after)
            if number % 4 < 2
        ),
        batch_size=500,
    )  # fmt: skip
