"""The dashboard: what each role gets, before any script runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from django.urls import reverse

from accounts_app.roles import Role
from tasks_app import services
from tasks_app.submission import TaskSpec
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
LOOK = re.compile(r'<script id="first-look" type="application/json">(.*?)</script>', re.DOTALL)
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def page_of(client, user_of):
    """Return a function that gives a role's dashboard as text, and what its scripts begin with."""

    def open_page(role, user=None):
        client.force_login(user or user_of(role))
        text = client.get("/").content.decode()
        return text, json.loads(LOOK.search(text)[1])

    return open_page


@pytest.fixture
def worker():
    """Return a worker that waits for approval."""
    return Worker.objects.create(id="w1", name=HOSTILE, public_key_sha256="k", created_at=datetime.now(UTC))


def test_strangers_are_led_to_the_sign_in_and_back(client, user_of):
    """The page that was asked for comes after the sign-in; another site's never does."""
    user_of(Role.CLIENT, "cleo")
    answer = client.get("/tasks/?status=failed")
    assert (answer.status_code, answer["Location"]) == (302, "/login/?next=/tasks/%3Fstatus%3Dfailed")
    form = {"username": "cleo", "password": "pw-of-a-test"}
    assert client.post("/login/", form | {"next": "https://evil.example/"})["Location"] == "/"
    client.logout()
    assert client.post("/login/", form | {"next": "/tasks/?status=failed"})["Location"] == "/tasks/?status=failed"


def test_operators_see_everything(page_of, worker, user_of):
    """Counts, workers with their state, events and the form to add a machine."""
    services.submit(user_of(Role.CLIENT, "cleo"), [TaskSpec(command="echo of cleo", name="hers")])
    text, look = page_of(Role.DISPATCHER)
    assert look["summary"]["tasks"]["queued"] == 1
    assert [card["status"] for card in look["workers"].values()] == ["pending"]
    assert look["events"][0]["text"] == "cleo submitted the task"
    for words in ("Workers", "Events", "Add a machine", "The last hour", "hers"):
        assert words in text
    assert "No machine has joined yet" in text


def test_clients_see_their_own_tasks_only(page_of, worker, user_of):
    """No worker, no event and nobody else's task, neither on the page nor in what its scripts get."""
    cleo, other = user_of(Role.CLIENT, "cleo"), user_of(Role.CLIENT, "other")
    services.submit(cleo, [TaskSpec(command="echo mine", name="task of cleo")])
    services.submit(other, [TaskSpec(command="echo secret", name="task of other")])
    text, look = page_of(Role.CLIENT, cleo)
    assert look["summary"]["tasks"]["queued"] == 1
    assert [task["name"] for task in look["tasks"].values()] == ["task of cleo"]
    assert not {"workers", "events", "point"} & look.keys()
    assert "task of cleo" in text
    for words in ("task of other", "Events", "Add a machine", "onerror", reverse("worker-list")):
        assert words not in text


def test_what_others_wrote_is_text(page_of, worker, user_of):
    """A command, a name of a task and a name of a machine cannot become elements of the page."""
    services.submit(user_of(Role.CLIENT, "cleo"), [TaskSpec(command=HOSTILE), TaskSpec(command="true", name=HOSTILE)])
    text, look = page_of(Role.ADMIN)
    assert HOSTILE not in text
    assert "&lt;/script&gt;&lt;img" in text
    assert {task["command"] for task in look["tasks"].values()} == {HOSTILE, "true"}


def test_a_page_costs_few_queries_whatever_there_is(client, user_of, django_assert_max_num_queries):
    """Forty tasks and thirty workers cost as many queries as none."""
    services.submit(user_of(Role.CLIENT, "cleo"), [TaskSpec(command="true")] * 40)
    now = datetime.now(UTC)
    Worker.objects.bulk_create(
        Worker(id=f"w{number}", name=f"pc-{number}", public_key_sha256=f"k{number}", created_at=now)
        for number in range(30)
    )
    client.force_login(user_of(Role.ADMIN))
    with django_assert_max_num_queries(40):
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("address", ["tasks", "workers", "audit", "login", "admin", "tasks/abc"])
def test_the_slash_at_the_end_may_be_left_out(client, address):
    """It leads to the address with it, and keeps what was asked."""
    answer = client.get(f"/{address}?a=b")
    assert (answer.status_code, answer["Location"]) == (302, f"/{address}/?a=b")
