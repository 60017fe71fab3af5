"""The page of all workers and the page of one: who may see them, what they say, and what they offer to do."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts_app.roles import Role
from octaskly_wire.vocabulary import Admission
from tasks_app.models import AttemptState, Result, Task, TaskStatus
from workers_app.models import Worker

pytestmark = pytest.mark.django_db


def new_worker(number: int = 7, **fields):
    """Put a worker into the registry: approved and connected, unless the fields say otherwise."""
    values = {
        "id": f"w-{number:02}", "name": f"pc-{number:02}", "public_key_sha256": f"{number:064x}",
        "created_at": timezone.now(), "admission": Admission.APPROVED.value, "is_connected": True, "slots": 4,
        "cpu_count": 8, "memory_total_bytes": 16 << 30, "connected_at": timezone.now(), "last_seen_at": timezone.now(),
        "vitals": {"cpu_percent": 25.0, "memory_available_bytes": 8 << 30, "disk_free_bytes": 5 << 30, "load_1m": 1.0},
    }  # fmt: skip
    return Worker.objects.create(**{**values, **fields})


def new_task(owner, number: int, **fields):
    """Put a task into the table."""
    now = timezone.now()
    values = {"command": "make all", "sandbox": "strict", "created_at": now, "available_at": now}
    return Task.objects.create(id=f"t-{number}", owner=owner, **{**values, **fields})


@pytest.fixture
def viewer(user_of):
    """Return a dispatcher's browser."""
    client = Client()
    client.force_login(user_of(Role.DISPATCHER, "dora"))
    return client


def shown(client, path):
    """Return the page's text."""
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def steps_on(text):
    """Return the steps that the page of a worker offers."""
    return re.findall(r'data-step="(\w+)"', text)


@pytest.mark.parametrize(("role", "status"), [(Role.ADMIN, 200), (Role.CLIENT, 403), (Role.WORKER, 403), (None, 403)])
def test_operators_only(user_of, role, status):
    """Everybody else who is signed in is refused, and strangers are sent to the sign-in."""
    client, worker = Client(), new_worker()
    for path in ("/workers/", worker.get_absolute_url()):
        assert client.get(path)["Location"] == f"/login/?next={path}"
    client.force_login(user_of(role))
    for path in ("/workers/", worker.get_absolute_url()):
        assert client.get(path).status_code == status


def test_a_worker_that_is_none_is_not_found(viewer):
    """Whatever stands in the address."""
    assert viewer.get("/workers/nothing/").status_code == 404


def test_the_list_has_those_that_wait_in_a_place_of_their_own(viewer):
    """Names are text, revoked ones are left out, and the scripts get the same facts."""
    new_worker(1)
    new_worker(2, name="<i>evil</i>", admission=Admission.PENDING.value)
    new_worker(3, admission=Admission.REVOKED.value)
    text = shown(viewer, "/workers/")
    before, after = text.split('id="workers-panel"')
    assert "&lt;i&gt;evil&lt;/i&gt;" in before
    assert "<i>evil" not in text
    assert 'href="/workers/w-01/"' in after
    assert 'href="/workers/w-03/"' not in after
    assert '"name": "pc-01"' in after


def test_the_list_asks_no_more_of_a_hundred_workers(viewer):
    """Whatever there is of each is read at once."""
    new_worker(1)
    with CaptureQueriesContext(
        connection,
    ) as few:
        shown(viewer, "/workers/")
    for number in range(2, 101):
        new_worker(number)
    with CaptureQueriesContext(connection) as many:
        shown(viewer, "/workers/")
    assert len(many) == len(few)


@pytest.mark.parametrize(
    ("fields", "badge", "why", "steps"),
    [
        ({}, "connected", "", ["drain", "suspend", "revoke"]),
        ({"is_draining": True}, "draining", "takes nothing new", ["resume", "suspend", "revoke"]),
        ({"pause_reason": "the disk is full"}, "paused", "the disk is full", ["drain", "suspend", "revoke"]),
        ({"is_connected": False}, "disconnected", "last seen", ["drain", "suspend", "revoke"]),
        ({"admission": "pending"}, "pending", "waits for approval", ["approve", "revoke"]),
        ({"admission": "suspended", "admission_reason": "it <b>fails</b>"}, "suspended", "it &lt;b&gt;fails&lt;/b&gt;",
         ["approve", "revoke"]),
        ({"admission": "revoked", "admission_reason": "stolen"}, "revoked", "stolen", []),
    ],
)  # fmt: skip
def test_the_head_says_the_state_and_why_and_offers_what_it_allows(viewer, fields, badge, why, steps):
    """Each step that REST would refuse is missing."""
    text = shown(viewer, new_worker(**fields).get_absolute_url())
    assert re.search(r'id="worker-status">(\w+)<', text)[1] == badge
    assert why in re.search(r'id="worker-why">(.*?)</span>', text, re.DOTALL)[1]
    assert steps_on(text) == steps


def test_the_page_tells_what_the_worker_is(viewer):
    """Levels with backend, gaps and reasons, caps, key, certificate, and its story."""
    worker = new_worker(
        levels=[{"level": "strict", "backend": "linux-namespaces", "gaps": ["limits: disk is polled"]}],
        levels_unproven=[{"level": "none", "reason": "below this worker's floor", "is_below_floor": True}],
        max_limits={"memory_mb": 4096, "timeout_s": 60}, platform="Linux-6", software_version="1.2.3",
        address="10.0.0.7", transport="tcp", certificate_expires_at=timezone.now() + timedelta(days=3),
    )  # fmt: skip
    text = shown(viewer, worker.get_absolute_url())
    for fact in (
        "proven with linux-namespaces", "open: limits: disk is polled", "below this worker&#x27;s floor",
        "<dt>Most memory</dt><dd>4,096 MB</dd>", "<dt>Most time</dt><dd>60 s</dd>", "Linux-6", "1.2.3", "10.0.0.7",
        worker.public_key_sha256, "good until", 'href="/audit/?worker_id=w-07"',
    ):  # fmt: skip
        assert fact in text, fact


def test_its_tasks_are_there_newest_first(viewer, user_of):
    """What runs now, and the latest attempts with why they ended; of other workers nothing."""
    worker, owner, now = new_worker(), user_of(Role.CLIENT, "carl"), timezone.now()
    running = {
        "worker_id": worker.id,
        "assigned_at": now,
        "started_at": now,
        "status": TaskStatus.RUNNING,
        "attempt": 1,
    }
    new_task(owner, 1, name="running one", **running)
    new_task(owner, 2, command="<u>ended</u>\n  all")
    new_task(owner, 3, name="elsewhere", **{**running, "worker_id": "w-99"})
    ended = {"attempt": 1, "state": AttemptState.ENDED, "limits": {}}
    for number, (at, fields) in enumerate([
        (now - timedelta(hours=2), {"outcome": "failed", "failure_reason": "exit_code", "exit_code": 3}),
        (now - timedelta(hours=1), {"outcome": "rejected", "detail": "the disk is full", "attempt": 2}),
    ]):  # fmt: skip
        Result.objects.create(
            attempt_id=f"t-2.{number}", task_id="t-2", worker_id=worker.id, assigned_at=at, **{**ended, **fields}
        )
    text = shown(viewer, worker.get_absolute_url())
    now_there, latest = text.split('id="worker-latest"')
    assert "running one" in now_there
    assert "1 of 4 slots" in now_there
    assert "elsewhere" not in text
    assert "&lt;u&gt;ended&lt;/u&gt; all" in latest
    assert re.findall(r">(exit code 3|the disk is full)<", latest) == ["the disk is full", "exit code 3"]


def test_the_page_reads_through_indexes_and_no_output(viewer, django_assert_max_num_queries):
    """Whatever the tables hold: its own rows only, without stdout and stderr."""
    path = new_worker().get_absolute_url()
    with django_assert_max_num_queries(8) as captured:
        viewer.get(path)
    reads = [one["sql"] for one in captured if re.search(r'FROM "(tasks|results)"', one["sql"])]
    assert len(reads) == 2
    for sql in reads:
        assert "stdout" not in sql
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [row[3] for row in cursor.fetchall()]
        assert all(step.startswith("SEARCH") for step in plan), plan
