"""One request that cancels or retries many tasks, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from audit_app.verifying import verify
from tasks_app import signals
from tasks_app.models import Task
from tests.support.hearing import hearing

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def submit(client, count: int) -> list[str]:
    """Submit tasks and return their ids."""
    answer = client.post(URL, [{"command": "true"}] * count)
    return [task["id"] for task in answer.json()]


def test_each_is_cancelled_as_if_alone(client, django_capture_on_commit_callbacks):
    """What waits has ended, what runs is asked to; every task has its row in the audit, and the engine hears once."""
    waiting, running, done = submit(client, 3)
    Task.objects.filter(id=running).update(status="running", assigned_at=datetime.now(UTC), worker_id="w1", attempt=1)
    Task.objects.filter(id=done).update(status="completed")
    with hearing(signals.cancel_requested, "task_id") as heard:
        for _ in range(2):
            with django_capture_on_commit_callbacks(execute=True):
                answer = client.post(f"{URL}/cancel", {"ids": [running, waiting, done]}, format="json")
    assert heard == [running]
    shown = {task["id"]: (task["status"], task["cancel_requested"]) for task in answer.json()["cancelled"]}
    assert shown == {running: ("running", True)}
    assert answer.json()["not_possible"] == [
        {"id": waiting, "reason": "the task is cancelled already"},
        {"id": done, "reason": "the task is completed already"},
    ]
    assert client.get(f"{URL}/{waiting}").json()["failure_reason"] == "cancelled"
    rows = AuditEntry.objects.filter(event_type__startswith="task_cancel").values_list("event_type", "task_id")
    assert sorted(rows) == [("task_cancel_requested", running), ("task_cancelled", waiting)]
    assert verify().first_bad_id is None


def test_what_is_answered_is_what_is_stored(client):
    """The task in the answer is the task that a GET shows, in the order asked for, each once."""
    ids = submit(client, 3)
    answer = client.post(f"{URL}/cancel", {"ids": [ids[2], ids[0], ids[2]]}, format="json").json()
    assert answer == {
        "cancelled": [client.get(f"{URL}/{task_id}").json() for task_id in (ids[2], ids[0])],
        "not_possible": [],
    }
    assert client.get(f"{URL}/{ids[1]}").json()["status"] == "queued"


def test_what_cannot_be_seen_is_left_alone(client, client_of):
    """Another client's task and one that does not exist are told alike, and hold up none of one's own."""
    [own], [foreign] = submit(client, 1), submit(client_of(Role.CLIENT, "other"), 1)
    answer = client.post(f"{URL}/cancel", {"ids": ["nothing", foreign, own]}, format="json").json()
    assert [task["id"] for task in answer["cancelled"]] == [own]
    assert answer["not_possible"] == [
        {"id": task_id, "reason": f"there is no task {task_id}"} for task_id in ("nothing", foreign)
    ]
    assert Task.objects.get(id=foreign).status == "queued"


def test_many_are_queued_again(client):
    """Those that have ended; of the others it is said why not."""
    ended, waiting = submit(client, 2)
    Task.objects.filter(id=ended).update(status="failed", failures=2, exit_code=1, failure_reason="exit_code")
    answer = client.post(f"{URL}/retry", {"ids": [ended, waiting]}, format="json").json()
    assert [(task["id"], task["status"], task["exit_code"]) for task in answer["retried"]] == [(ended, "queued", None)]
    assert [(entry["id"], "only an ended one" in entry["reason"]) for entry in answer["not_possible"]] == [
        (waiting, True)
    ]
    assert AuditEntry.objects.get(event_type="task_retried").details == '{"from":"failed"}'


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "ids"), ({"ids": []}, "ids"), ({"ids": ["x"] * 501}, "ids"), ({"ids": [1]}, "ids.0"), ({"all": 1}, "all")],
)
@pytest.mark.parametrize("step", ["cancel", "retry"])
def test_a_wrong_list_is_refused(client, step, body, field):
    """The field is named."""
    answer = client.post(f"{URL}/{step}", body, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_a_full_list_takes_few_statements(client, django_assert_max_num_queries):
    """However many there are: statements for each would make Ctrl-C of a large map slow."""
    ids = submit(client, 500)
    with django_assert_max_num_queries(20):
        answer = client.post(f"{URL}/cancel", {"ids": ids}, format="json")
    assert len(answer.json()["cancelled"]) == 500
