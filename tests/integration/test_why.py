"""REST says why tasks wait, worker by worker, and warns of those that nothing can run: on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pytest
from django.db import connection

from accounts_app.roles import Role
from tasks_app.models import Task
from tasks_app.why import AHEAD_QUERY
from tasks_app.worker_views import warnings_of
from tests.support.submitting import submit
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def test_why_without_workers_says_what_to_do(client):
    """A newcomer is told the next step."""
    task = submit(client)
    answer = client.get(f"{URL}/{task['id']}/why").json()
    assert answer["workers"] == []
    assert "Join a machine" in answer["message"]


@pytest.fixture
def two_workers():
    """Return two free workers: one that allows little, and one that offers but level strict."""
    common = {
        "admission": "approved", "is_connected": True, "slots": 2, "memory_total_bytes": 64 << 30,
        "created_at": datetime.now(UTC),
    }  # fmt: skip
    caps = {
        "memory_mb": 4096, "cpu_seconds": 60, "processes": 64, "open_files": 1024, "disk_mb": 512, "timeout_s": 4000,
    }  # fmt: skip
    basic, strict = ({"level": level, "backend": "b", "gaps": []} for level in ("basic", "strict"))
    Worker.objects.create(
        id="w1", name="small", public_key_sha256="1", levels=[basic], max_limits=caps,
        levels_unproven=[{"level": "strict", "reason": "user namespaces are forbidden"}], **common,
    )  # fmt: skip
    Worker.objects.create(
        id="w2", name="walled", public_key_sha256="2", levels=[strict],
        levels_unproven=[
            {"level": level, "reason": "below this worker's floor (strict)", "is_below_floor": True}
            for level in ("none", "basic")
        ], **common,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"limits": {"memory_mb": 8192}}, "needs 8 GB of memory, allows 4 GB"),
        ({"limits": {"cpu_seconds": 61}}, "needs 61 s of processor time, allows 60 s"),
        ({"limits": {"processes": 100}}, "needs 100 processes, allows 64"),
        ({"limits": {"open_files": 4096}}, "needs 4096 open files, allows 1024"),
        ({"limits": {"disk_mb": 1000}}, "needs 1000 MB of disk, allows 512 MB"),
        ({"limits": {"memory_mb": 65_537}}, "needs 65537 MB of memory, has 65536 MB"),
        ({"timeout": 7200}, "allows a time-out of at most 4000 s, needs 7200 s"),
    ],
)
def test_why_names_the_limit_with_both_numbers(client, two_workers, asked, reason):
    """A task that no worker takes says so when it is submitted, and worker by worker why."""
    task = submit(client, sandbox="basic", **asked)
    answer = client.get(f"{URL}/{task['id']}/why").json()
    small, walled = sorted(answer["workers"], key=itemgetter("name"))
    assert (small["name"], small["reason"], small["is_lasting"]) == ("small", reason, True)
    assert walled["reason"] == "does not offer basic: its owner allows nothing below strict"
    assert answer["message"].startswith("No worker can run this as it is. Closest is ")
    assert task["warnings"] == [answer["message"]]


def test_why_tells_one_worker_from_the_other(client, two_workers):
    """What one cannot prove another may be free to run."""
    task = submit(client, sandbox="strict", limits={"memory_mb": 8192})
    answer = client.get(f"{URL}/{task['id']}/why").json()
    walled, small = (worker["reason"] for worker in answer["workers"])
    assert small == "cannot prove strict: user namespaces are forbidden"
    assert walled == "free, about to be given a task"
    assert answer["message"] == "The task waits for the worker that can run it. It is the next in the queue."
    assert task["warnings"] == []


def test_what_operators_wrote_of_a_worker_is_for_operators(client, client_of, two_workers):
    """Why a worker is suspended stands in an operator's answers; a client learns that it is, and no more."""
    Worker.objects.update(admission="suspended", admission_reason="moves to another room")
    task = submit(client)
    assert task["warnings"] == ["No worker can run this as it is. Closest is walled: suspended."]
    seen_by_client = client.get(f"{URL}/{task['id']}/why").json()
    assert "moves" not in f"{task}{seen_by_client}"
    assert {worker["reason"] for worker in seen_by_client["workers"]} == {"suspended"}
    seen_by_operator = client_of(Role.DISPATCHER).get(f"{URL}/{task['id']}/why").json()
    assert {worker["reason"] for worker in seen_by_operator["workers"]} == {"suspended: moves to another room"}


def test_why_counts_what_is_ahead_for_the_same_workers(client, two_workers, monkeypatch):
    """Tasks of higher priority and older ones, of every level that the worker proves; far ahead is said as such."""
    monkeypatch.setattr("tasks_app.why.MAX_COUNTED_AHEAD", 3)
    submit(client, sandbox="strict")
    submit(client, sandbox="basic")  # For the other worker.
    submit(client, sandbox="strict", priority=-1)
    task = submit(client, sandbox="strict")
    submit(client, sandbox="strict", priority=1)
    assert "2 tasks in the queue are ahead" in client.get(f"{URL}/{task['id']}/why").json()["message"]
    for _ in range(2):
        submit(client, sandbox="strict", priority=5)
    assert "More than 3 tasks in the queue are ahead" in client.get(f"{URL}/{task['id']}/why").json()["message"]


def test_what_is_ahead_is_counted_in_the_index():
    """However long the queue is, only its entries in the index are counted, up to the bound."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {AHEAD_QUERY}", ["strict", False, 0, 9, "strict", False, 0, "x", 9])
        plan = [row[3] for row in cursor.fetchall() if "tasks" in row[3]]
    assert len(plan) == 2
    assert all("tasks_ready" in step for step in plan), plan


def test_why_says_how_long_a_repeated_task_waits(client):
    """After a failure the message tells in how long it is tried again."""
    task = submit(client)
    Task.objects.filter(pk=task["id"]).update(available_at=datetime.now(UTC) + timedelta(minutes=5))
    assert "is tried again in 5 min (at " in client.get(f"{URL}/{task['id']}/why").json()["message"]


def test_each_task_of_a_list_is_warned_of_by_its_own_needs(client, two_workers, django_assert_num_queries):
    """Only in the answer to the submission, a repeated one included; the workers are looked at once for all."""
    specs = [{"command": "a", "sandbox": "strict"}, {"command": "b", "sandbox": "very_strict"}] * 2
    first = client.post(URL, specs, HTTP_IDEMPOTENCY_KEY="k")
    fit, unfit, _, unfit_too = (task["warnings"] for task in first.json())
    assert fit == []
    assert unfit == unfit_too
    assert "No worker can run this as it is. Closest is small" in unfit[0]
    assert client.post(URL, specs, HTTP_IDEMPOTENCY_KEY="k").json() == first.json()
    with django_assert_num_queries(0):
        assert warnings_of([Task(sandbox="strict", network=True, timeout_s=1)] * 3)[2] != []
