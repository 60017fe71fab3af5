"""What waiting for tasks refuses and answers, on a real database; the waiting itself is in tests/acceptance."""

from __future__ import annotations

import pytest

from accounts_app.roles import Role
from octaskly_site import status

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks/wait"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": "x"}, "ids"),
        ({"ids": ["x"] * 501}, "ids"),
        ({"ids": ["x", 7]}, "ids.1"),
        ({"ids": ["x"], "timeout": 61}, "timeout"),
        ({"ids": ["x"], "timeout": -1}, "timeout"),
        ({"ids": ["x"], "timeout": True}, "timeout"),
        ({"ids": ["x"], "timeout": "1"}, "timeout"),
        ({"ids": ["x"], "until": "end"}, "until"),
    ],
)
def test_a_wrong_wait_is_refused(client, body, field):
    """The field and the cause are named."""
    answer = client.post(URL, body, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert answer["Content-Type"] == "application/problem+json"


def test_a_body_that_is_no_object_is_refused(client):
    """So is a list of ids, which would be understood, but is not what was agreed on."""
    assert client.post(URL, ["x"], format="json").status_code == 400


def test_the_first_task_that_cannot_be_seen_is_named(client, client_of):
    """One that does not exist and one of another client alike."""
    own = client.post("/api/v1/tasks", {"command": "true"}).json()["id"]
    foreign = client_of(Role.CLIENT, "other").post("/api/v1/tasks", {"command": "true"}).json()["id"]
    answer = client.post(URL, {"ids": [own, foreign, "nothing"]})
    assert answer.status_code == 404
    assert answer.json()["errors"] == [{"field": "ids.1", "message": f"there is no task {foreign}"}]


def test_those_that_have_ended_are_shown_in_order(client):
    """In the order in which they were named, each once, as everywhere else."""
    task = {"command": "true", "env": {"A": "é"}, "limits": {"processes": 9}, "outputs": ["*.txt"], "network": True}
    ids = [client.post("/api/v1/tasks", task, format="json").json()["id"] for _ in range(3)]
    for task_id in ids[:2]:
        client.post(f"/api/v1/tasks/{task_id}/cancel")
    answer = client.post(URL, {"ids": [ids[2], ids[1], ids[0], ids[1]]})
    assert [task["id"] for task in answer.json()["tasks"]] == [ids[1], ids[0]]
    assert answer.json()["tasks"][0] == client.get(f"/api/v1/tasks/{ids[1]}").json()


def test_workers_and_strangers_may_not_wait(client_of):
    """It is for those who may have tasks."""
    assert client_of(Role.WORKER).post(URL, {"ids": ["x"]}).status_code == 403
    assert client_of(None).post(URL, {"ids": ["x"]}).status_code == 403


def test_waiting_goes_on_while_nothing_can_be_stored(client, monkeypatch):
    """It writes nothing, unlike other requests with a body."""
    task_id = client.post("/api/v1/tasks", {"command": "true"}).json()["id"]
    monkeypatch.setattr(status, "_read_only_reason", lambda: "the disk is full")
    assert client.post("/api/v1/tasks", {"command": "true"}).status_code == 503
    assert client.post(URL, {"ids": [task_id]}).json() == {"tasks": []}
