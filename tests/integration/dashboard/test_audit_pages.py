"""The page of the audit: who may see it, what it says, and that it stays quick."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from audit_app.trail import AuditEvent, record
from dashboard_app.views import audit as page
from tasks_app.models import Task
from workers_app.models import Worker

pytestmark = pytest.mark.django_db


def write(*events):
    """Append events."""
    with transaction.atomic():
        record(*events)


@pytest.fixture
def viewer(user_of):
    """Return a dispatcher's browser."""
    client = Client()
    client.force_login(user_of(Role.DISPATCHER, "dora"))
    return client


def shown(client, query=""):
    """Return the page's text."""
    answer = client.get(f"/audit/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def sentences(text):
    """Return what happened, row by row."""
    cells = re.findall(r'(?:<summary>|<div class="what">)([^<]+)<', text)
    return [cell.strip() for cell in cells if cell != "Details"]


def pages_of(client, query):
    """Return the workers that connected, over all pages."""
    seen = []
    while query:
        text = shown(client, query)
        seen += re.findall(r"(w\d+) connected", text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        query = found[1].replace("&amp;", "&") if found else ""
    return seen


@pytest.mark.parametrize(("role", "status"), [(Role.ADMIN, 200), (Role.CLIENT, 403), (Role.WORKER, 403), (None, 403)])
def test_operators_only(user_of, role, status):
    """Everybody else who is signed in is refused."""
    client = Client()
    client.force_login(user_of(role))
    assert client.get("/audit/").status_code == status


def test_strangers_are_sent_to_the_sign_in():
    """And come back to the very filter."""
    answer = Client().get("/audit/?actor=anna")
    assert (answer.status_code, answer["Location"]) == (302, "/login/?next=/audit/%3Factor%3Danna")


def test_rows_are_sentences_with_names_and_links(viewer, user_of):
    """Workers and tasks by name, texts of strangers as text, and a link to each story."""
    worker = Worker.objects.create(id="w-1", name="pc-07", public_key_sha256="0" * 64, created_at=timezone.now())
    task = Task.objects.create(
        id="t-1", command="<b>x</b>", owner=user_of(Role.CLIENT, "anna"), sandbox="strict",
        created_at=timezone.now(), available_at=timezone.now(),
    )  # fmt: skip
    details = {"attempt": 2, "outcome": "failed", "exit_code": 3, "failure_reason": "exit_code"}
    write(
        AuditEvent("worker_approved", "anna", worker.id, details={"from": "pending"}),
        AuditEvent("task_finished", "engine", worker.id, task.id, details),
        AuditEvent("login_failed", "", details={"username": "<script>alert(1)</script>", "failures": 1}),
    )
    text = shown(viewer)
    assert sentences(text)[:3] == [
        "Sign-in failed for &#x27;&lt;script&gt;alert(1)&lt;/script&gt;&#x27; (1 failure)",
        "Attempt 2 failed on pc-07: exit code 3",
        "pc-07 was approved by anna",
    ]
    assert "<script>alert" not in text
    assert "&lt;b&gt;x&lt;/b&gt;</a>" in text
    for address in (
        "/workers/w-1/",
        "/tasks/t-1/",
        "/audit/?task_id=t-1",
        "/audit/?worker_id=w-1",
        "/audit/?person=anna",
    ):
        assert f'href="{address}"' in text, address


def test_a_task_s_story_runs_from_its_beginning(viewer):
    """Its own rows only, oldest first."""
    write(
        AuditEvent("task_submitted", "anna", task_id="t-1"),
        AuditEvent("task_submitted", "anna", task_id="t-2"),
        AuditEvent("task_started", "engine", "w-1", "t-1", {"attempt": 1}),
        AuditEvent("task_finished", "engine", "w-1", "t-1", {"attempt": 1, "outcome": "completed", "exit_code": 0}),
    )
    text = shown(viewer, "?task_id=t-1")
    assert sentences(text) == ["anna submitted the task", "Attempt 1 started on w-1", "Attempt 1 completed on w-1"]


def test_a_person_s_story_has_sign_ins_that_failed(viewer):
    """What the person did, and what was done with the name."""
    write(
        AuditEvent("login_failed", "", details={"username": "anna", "failures": 1}),
        AuditEvent("login_succeeded", "anna", details={"method": "session"}),
        AuditEvent("login_succeeded", "bo", details={"method": "session"}),
        AuditEvent("account_changed", "admin", details={"username": "anna", "change": "changed"}),
    )
    text = shown(viewer, "?person=anna")
    assert sentences(text) == [
        "The account &#x27;anna&#x27; was changed by admin",
        "anna signed in in a browser",
        "Sign-in failed for &#x27;anna&#x27; (1 failure)",
    ]


def test_pages_follow_each_other_without_gap_or_repeat(viewer, monkeypatch):
    """Newest first, by the id; filters stay."""
    monkeypatch.setattr(page, "PAGE_ROWS", 4)
    write(*(AuditEvent("worker_connected", "engine", f"w{number:02}") for number in range(10)))
    assert pages_of(viewer, "?event_type=worker_connected") == [f"w{number:02}" for number in reversed(range(10))]


def test_pages_of_a_time_follow_each_other_too(viewer, monkeypatch):
    """Also where many rows have the same time, and where the clock was set back."""
    monkeypatch.setattr(page, "PAGE_ROWS", 3)
    start = timezone.now() - timedelta(days=1)
    for number, minutes in enumerate([0, 1, 1, 1, 1, 1, 4, 2, 3]):
        with transaction.atomic():
            record(AuditEvent("worker_connected", "engine", f"w{number}"), at=start + timedelta(minutes=minutes))
    moment = (start + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    assert pages_of(viewer, f"?timestamp_after={moment}&timestamp_before=2999-01-01T00:00:00Z") == [
        "w6", "w8", "w7", "w5", "w4", "w3", "w2", "w1",
    ]  # fmt: skip


def test_a_search_reads_a_bounded_piece_and_goes_on_when_asked(viewer, monkeypatch):
    """A text that is far back is found by going on, not by one endless page."""
    write(AuditEvent("worker_paused", "engine", "w1", details={"detail": "a needle"}))
    write(*(AuditEvent("worker_unpaused", "engine", "w1", details={"detail": ""}) for _ in range(20)))
    monkeypatch.setattr(page, "SEARCHED_IDS", 12)
    text = shown(viewer, "?details=needle")
    assert "Nothing found so far" in text
    further = re.search(r'rel="next" href="([^"]+)"', text)[1].replace("&amp;", "&")
    text = shown(viewer, further)
    assert sentences(text) == ["w1 paused: a needle"]


def test_a_time_that_is_none_is_said_at_its_field(viewer):
    """With the page around it, and no rows."""
    answer = viewer.get("/audit/?timestamp_after=never")
    assert answer.status_code == 400
    assert 'id="e-after"' in answer.content.decode()


@pytest.mark.parametrize(
    "query", ["actor=a", "person=a", "event_type=a", "task_id=a", "worker_id=a", "task_id=a&cursor=5", "cursor=9"]
)
def test_every_filter_runs_along_an_index(viewer, query, django_assert_max_num_queries):
    """No page walks or sorts the table, and none asks more than a handful of questions."""
    write(AuditEvent("a", "a", "a", "a"))
    with django_assert_max_num_queries(12) as captured:
        viewer.get(f"/audit/?{query}")
    reads = [one["sql"] for one in captured if '"audit_log"' in one["sql"]]
    assert reads
    with connection.cursor() as cursor:
        for sql in reads:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [row[3] for row in cursor.fetchall()]
            assert not any("TEMP B-TREE" in step for step in plan), plan
            assert all("INDEX" in step for step in plan if step.startswith(("SCAN", "SEARCH"))), plan
            if query != "cursor=9":
                assert any(step.startswith("SEARCH") for step in plan), plan


def test_a_spoilt_row_costs_no_page(viewer):
    """Somebody wrote into the database file; the page still comes."""
    AuditEntry.objects.bulk_create([
        AuditEntry(
            id=10**6, timestamp=timezone.now(), event_type="x", actor="a", details="{", previous_hash="", hash=""
        )
    ])  # fmt: skip
    assert "entry 1000000" not in shown(viewer)
