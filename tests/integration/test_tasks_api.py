"""REST of tasks on a real database: submit, list, see, cancel, retry, read output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from tasks_app import signals
from tasks_app.models import Result, Task
from tests.support.hearing import hearing
from tests.support.submitting import submit

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def test_submitted_task_has_every_field_of_the_contract(client):
    """What comes back is the whole task, queued, owned by who asked."""
    task = submit(client, command="echo hi", name="n", priority=3)
    assert set(task) >= {
        "id", "command", "name", "env", "priority", "max_retries", "sandbox", "network", "limits", "inputs", "outputs",
        "timeout", "status", "worker_id", "created_at", "started_at", "completed_at", "exit_code", "stdout", "stderr",
        "stdout_truncated", "stderr_truncated", "duration_ms", "attempt", "failure_reason", "owner",
    }  # fmt: skip
    assert (task["status"], task["owner"], task["priority"], task["timeout"]) == ("queued", "client", 3, 3600)
    assert task["created_at"].endswith("Z")
    del task["warnings"]  # Only said when it is submitted.
    assert client.get(f"{URL}/{task['id']}").json() == task
    assert client.get(f"{URL}/{task['id']}/").json() == task


@pytest.mark.parametrize("body", [{"command": "echo one"}, [{"command": "echo one"}]])
def test_what_was_submitted_is_shown_to_people_too(client, body):
    """On the page that REST framework makes of an answer."""
    answer = client.post(URL, body, headers={"Accept": "text/html"})
    assert answer.status_code == 201
    assert answer["Content-Type"].startswith("text/html")
    assert "echo one" in answer.content.decode()


def test_list_is_taken_whole_or_not_at_all(client):
    """One bad task among good ones stores none, and its place is named."""
    answer = client.post(URL, [{"command": "a"}, {"command": "b"}])
    assert answer.status_code == 201
    assert [task["command"] for task in answer.json()] == ["a", "b"]
    bad = client.post(URL, [{"command": "a"}, {"command": "b", "priority": 500}])
    assert bad.status_code == 400
    assert bad["Content-Type"] == "application/problem+json"
    assert bad.json()["errors"][0]["field"] == "[1].priority"
    assert Task.objects.count() == 2


def test_bad_json_is_a_problem_document(client):
    """A body that is no JSON is the client's error, said as such."""
    answer = client.generic("POST", URL, "{", content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["status"] == 400
    assert "JSON" in answer.json()["detail"]


def test_other_media_types_are_refused(client):
    """Forms are not taken for tasks."""
    assert client.generic("POST", URL, "command=ls", content_type="text/plain").status_code == 415


def test_ten_thousand_tasks_in_one_request(client):
    """The largest list is stored, in order."""
    answer = client.post(URL, [{"command": f"echo {number}"} for number in range(10_000)])
    assert answer.status_code == 201
    ids = [task["id"] for task in answer.json()]
    assert ids == sorted(ids)
    assert Task.objects.count() == 10_000
    assert AuditEntry.objects.filter(event_type="task_submitted").count() == 10_000


def test_pages_by_cursor_show_each_task_once(client):
    """Walking `next` shows all, newest first, without gaps or doubles, even while more come."""
    made = [task["id"] for task in client.post(URL, [{"command": "true"}] * 25).json()]
    seen, url = [], f"{URL}?limit=10"
    while url:
        page = client.get(url).json()
        seen += [task["id"] for task in page["results"]]
        url = page["next"]
        client.post(URL, {"command": "late"})
    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=501", "limit"), ("limit=x", "limit"), ("ordering=secret", "ordering"),
        ("status=asleep", "status"), ("created_after=yesterday", "created_after"), ("cursor=zzz", "cursor"),
    ],
)  # fmt: skip
def test_bad_query_parameters_are_named(client, query, field):
    """No parameter is silently ignored or replaced."""
    answer = client.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_filters_and_ordering(client):
    """Each filter narrows the list; priority orders with ties broken by age."""
    low, high = submit(client, name="low"), submit(client, name="high", priority=9)
    other = submit(client, name="low")
    Task.objects.filter(id=low["id"]).update(status="running", worker_id="w1")

    def names(query):
        return [task["id"] for task in client.get(f"{URL}?{query}").json()["results"]]

    assert names("status=running") == [low["id"]]
    assert names("worker_id=w1") == [low["id"]]
    assert names("name=high") == [high["id"]]
    assert names("owner=nobody") == []
    assert names("ordering=-priority") == [high["id"], other["id"], low["id"]]
    assert names("ordering=created_at") == [low["id"], high["id"], other["id"]]
    future = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert names(f"created_after={future}") == []
    assert len(names(f"created_before={future}")) == 3


def test_another_clients_task_does_not_exist(client, client_of):
    """Not to see, cancel, retry, explain, nor read: 404, and nothing changes."""
    task = submit(client)
    stranger = client_of(Role.CLIENT, "stranger")
    assert stranger.get(URL).json()["results"] == []
    for method, path in [
        ("get", ""), ("delete", ""), ("post", "/cancel"), ("post", "/retry"), ("get", "/attempts"), ("get", "/why"),
        ("get", "/stdout"), ("get", "/stderr"), ("get", "/outputs"), ("get", "/outputs/x"),
    ]:  # fmt: skip
        assert getattr(stranger, method)(f"{URL}/{task['id']}{path}").status_code == 404, path
    assert client.get(f"{URL}/{task['id']}").json()["status"] == "queued"
    operator = client_of(Role.DISPATCHER)
    assert operator.get(f"{URL}/{task['id']}").status_code == 200


def test_waiting_task_is_cancelled_at_once(client):
    """Nothing runs, so nothing has to be waited for; a second cancel is a conflict."""
    task = submit(client)
    answer = client.delete(f"{URL}/{task['id']}")
    assert (answer.status_code, answer.json()["status"], answer.json()["failure_reason"]) == (
        200,
        "cancelled",
        "cancelled",
    )
    again = client.post(f"{URL}/{task['id']}/cancel")
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]


def test_running_task_is_asked_to_stop(client, django_capture_on_commit_callbacks):
    """The wish is stored and the engine told after the commit; the status follows the worker."""
    task = submit(client)
    Task.objects.update(status="running", assigned_at=datetime.now(UTC), worker_id="w1", attempt=1)
    with hearing(signals.cancel_requested, "task_id") as heard, django_capture_on_commit_callbacks(execute=True):
        answer = client.post(f"{URL}/{task['id']}/cancel")
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("running", True)
    assert heard == [task["id"]]


def test_retry_gives_an_ended_task_a_new_life(client):
    """Budgets start afresh, attempt numbers go on, the old outcome is cleared; a waiting task is a conflict."""
    task = submit(client)
    assert client.post(f"{URL}/{task['id']}/retry").status_code == 409
    Task.objects.update(
        status="failed", failures=3, losses=2, attempt=5, exit_code=1, stdout="x", failure_reason="exit_code"
    )
    answer = client.post(f"{URL}/{task['id']}/retry").json()
    assert (answer["status"], answer["exit_code"], answer["stdout"], answer["failure_reason"]) == (
        "queued",
        None,
        "",
        None,
    )
    row = Task.objects.get()
    assert (row.failures, row.losses, row.attempt) == (0, 0, 5)


def test_idempotency_key_repeats_the_answer(client):
    """A repeated request gives the same tasks; another body under the same key is refused."""
    first = client.post(URL, [{"command": "a"}, {"command": "b"}], HTTP_IDEMPOTENCY_KEY="k1")
    again = client.post(URL, [{"command": "a"}, {"command": "b"}], HTTP_IDEMPOTENCY_KEY="k1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotent-Replay"] == "true"
    other = client.post(URL, {"command": "c"}, HTTP_IDEMPOTENCY_KEY="k1")
    assert other.status_code == 422
    assert Task.objects.count() == 2


def test_full_queue_says_when_to_come_back(client, settings):
    """Beyond the cap the answer is 429 with Retry-After and nothing is stored."""
    settings.OCTASKLY_MAX_QUEUED_TASKS = 1
    submit(client)
    answer = client.post(URL, {"command": "true"})
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert Task.objects.count() == 1


def test_unknown_limits_are_refused_by_name(client):
    """Nothing that nobody would keep is accepted."""
    answer = client.post(URL, {"command": "true", "limits": {"memory_gb": 1}})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "limits.memory_gb"


def test_what_is_asked_for_can_be_searched(client):
    """Submitted and retried alike, the columns say what the limits say."""
    task = submit(client, limits={"memory_mb": 64, "open_files": 8})
    assert task["limits"] == {"memory_mb": 64, "open_files": 8}
    Task.objects.update(status="failed")
    client.post(f"{URL}/{task['id']}/retry")
    row = Task.objects.get()
    assert (row.asked_memory_mb, row.asked_open_files, row.asked_cpu_seconds) == (64, 8, None)


def test_a_list_may_hold_tasks_of_many_kinds(client):
    """Each is stored as it was asked for, whatever its neighbours share."""
    asked = [
        {"command": f"echo {number}", "priority": number // 60 % 2, "limits": {"disk_mb": 1 + number // 60}}
        | ({"env": {"N": str(number)}, "outputs": ["a"]} if number % 7 else {})
        for number in range(200)
    ]
    shown = client.post(URL, asked).json()
    for fields, task, row in zip(asked, shown, Task.objects.order_by("id"), strict=True):
        assert task.items() >= fields.items()
        assert (row.id, row.command, row.priority) == (task["id"], fields["command"], fields["priority"])
        assert (row.limits, row.asked_disk_mb, row.asked_memory_mb) == (fields["limits"], row.limits["disk_mb"], None)
        assert (row.env, row.outputs) == (fields.get("env", {}), fields.get("outputs", []))
        assert row.created_at == row.available_at


@pytest.fixture
def finished(client):
    """Return a finished task with kept output."""
    task = submit(client)
    now = datetime.now(UTC)
    Task.objects.update(status="completed", attempt=1, exit_code=0)
    Result.objects.create(
        attempt_id=f"{task['id']}.1", task_id=task["id"], attempt=1, worker_id="w", assigned_at=now, state="ended",
        outcome="completed", stdout=b"0123456789\xff", stderr=b"",
    )  # fmt: skip
    return f"{URL}/{task['id']}"


def test_output_is_raw_bytes_with_ranges(client, finished):
    """The whole, a part, a tail, and a part that is not there."""
    whole = client.get(f"{finished}/stdout")
    assert (whole.content, whole["Content-Type"]) == (b"0123456789\xff", "text/plain; charset=utf-8")
    assert whole["X-Content-Type-Options"] == "nosniff"
    part = client.get(f"{finished}/stdout", HTTP_RANGE="bytes=2-4")
    assert (part.status_code, part.content, part["Content-Range"]) == (206, b"234", "bytes 2-4/11")
    assert client.get(f"{finished}/stdout", HTTP_RANGE="bytes=-3").content == b"89\xff"
    assert client.get(f"{finished}/stdout", HTTP_RANGE="bytes=8-").content == b"89\xff"
    assert client.get(f"{finished}/stdout", HTTP_RANGE="bytes=50-").status_code == 416
    assert client.get(f"{finished}/stderr").content == b""
    assert client.get(f"{finished}/stdout?attempt=1").status_code == 200
    assert client.get(f"{finished}/stdout?attempt=2").status_code == 404
    assert client.get(f"{finished}/stdout?attempt=x").status_code == 400


def test_attempts_are_listed(client, finished):
    """Each attempt with how it ended, without its output."""
    (attempt,) = client.get(f"{finished}/attempts").json()["results"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "completed")
    assert "stdout" not in attempt


def test_stats_count_what_the_user_may_see(client, client_of):
    """A client counts its own tasks, an operator all."""
    submit(client)
    submit(client_of(Role.CLIENT, "other"))
    own = client.get("/api/v1/stats").json()
    assert own["tasks"] == {"queued": 1, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}
    assert set(own["workers"]) == {"total", "active", "idle"}
    assert set(own["system"]) == {"uptime_seconds", "cpu_percent", "memory_mb"}
    assert own["database"]["size_mb"] > 0
    assert client_of(Role.ADMIN).get("/api/v1/stats").json()["tasks"]["queued"] == 2


def test_the_database_refuses_undefined_steps(client):
    """Even a statement that goes around the code cannot take a step that the table does not allow."""
    from django.db import DatabaseError, transaction

    submit(client)
    Task.objects.update(status="completed")
    with pytest.raises(DatabaseError, match="undefined step"), transaction.atomic():
        Task.objects.update(status="running")
    Task.objects.update(status="queued")
