"""Django's admin: its actions do what REST does, through the same services."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from octaskly_wire.join_token import JoinToken as TokenText
from tasks_app import services
from tasks_app.duration_text import duration_text
from tasks_app.models import Task
from tasks_app.submission import TaskSpec
from workers_app.models import JoinToken, Worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(client, admin_user):
    """Return a browser session of that user."""
    client.force_login(admin_user)
    return client


def act(browser, model, action, *ids):
    """Tick rows of a list and choose an action; return the page after it."""
    return browser.post(
        reverse(f"admin:{model}_changelist"), {"action": action, "_selected_action": ids}, follow=True
    ).content.decode()


@pytest.fixture
def worker():
    """Return a pending worker."""
    return Worker.objects.create(id="w1", name="pc-07", public_key_sha256="k", created_at=datetime.now(UTC))


def test_worker_actions_step_through_the_whitelist(browser, worker):
    """Each action is taken once and audited under the person's name."""
    for action, admission in [("approve", "approved"), ("suspend", "suspended"), ("revoke", "revoked")]:
        assert "1 worker" in act(browser, "workers_app_worker", f"{action}_workers", "w1")
        worker.refresh_from_db()
        assert worker.admission == admission
    assert "cannot become" in act(browser, "workers_app_worker", "approve_workers", "w1")
    assert AuditEntry.objects.filter(actor="root", worker_id="w1").count() == 3


def test_worker_drain_and_resume(browser, worker):
    """Both change what the engine reads."""
    act(browser, "workers_app_worker", "drain_workers", "w1")
    worker.refresh_from_db()
    assert worker.is_draining
    act(browser, "workers_app_worker", "resume_workers", "w1")
    worker.refresh_from_db()
    assert not worker.is_draining


def test_worker_page_tells_levels_and_caps(browser, worker):
    """What it proved and how, what stays open there, what it does not offer and why, what a task may ask for."""
    url = reverse("admin:workers_app_worker_change", args=["w1"])
    assert browser.get(url).status_code == 200, "nothing is known yet"
    worker.levels = [{"level": "basic", "backend": "linux-spawner", "gaps": ["network: <open>"]}]
    worker.levels_unproven = [{"level": "strict", "reason": "no namespaces", "is_below_floor": False}]
    worker.max_limits = {"memory_mb": 4096, "timeout_s": 600}
    worker.save()
    page = browser.get(url).content.decode()
    for words in (
        "basic: linux-spawner",
        "open: network: &lt;open&gt;",
        "strict: no namespaces",
        "memory_mb 4096",
        "timeout_s 600",
    ):
        assert words in page


def test_task_actions_cancel_and_retry(browser, admin_user):
    """A waiting task is cancelled, an ended one queued again, and what cannot be is said."""
    (task,) = services.submit(admin_user, [TaskSpec(command="true")])
    assert "1 task cancelled" in act(browser, "tasks_app_task", "cancel_tasks", task.id)
    assert "already" in act(browser, "tasks_app_task", "cancel_tasks", task.id)
    assert "1 task queued again" in act(browser, "tasks_app_task", "retry_tasks", task.id)
    assert Task.objects.get(id=task.id).status == "queued"


def test_rows_of_the_engine_cannot_be_edited(browser, admin_user, worker):
    """No add, change or delete page for tasks, workers and the audit."""
    (task,) = services.submit(admin_user, [TaskSpec(command="echo <b>hi</b>")])
    page = browser.get(reverse("admin:tasks_app_task_change", args=[task.id])).content.decode()
    assert "echo &lt;b&gt;hi&lt;/b&gt;" in page
    assert 'name="_save"' not in page
    for model, pk in [("tasks_app_task", task.id), ("workers_app_worker", "w1"), ("audit_app_auditentry", 1)]:
        assert browser.post(reverse(f"admin:{model}_delete", args=[pk]), {"post": "yes"}).status_code == 403
        assert browser.get(reverse(f"admin:{model}_add")).status_code == 403
    assert Task.objects.exists()


def test_join_token_is_shown_once(browser, admin_user):
    """The page that makes it shows it; the list never does."""
    page = browser.post(
        reverse("admin:workers_app_jointoken_add"), {"uses": 1, "hours": 1, "auto_approve": "on"}
    ).content.decode()
    text = next(word for word in page.split() if word.startswith("octa1-")).split("<")[0]
    token = TokenText.parse(text)
    assert f"/join.sh | sh -s -- {text}" in page
    assert JoinToken.objects.get().created_by == admin_user
    listed = browser.get(reverse("admin:workers_app_jointoken_changelist")).content.decode()
    assert token.secret not in listed


def test_users_without_staff_stay_out(client, user_of):
    """A client's session opens no admin page."""
    client.force_login(user_of(Role.CLIENT))
    assert client.get(reverse("admin:index")).status_code == 302


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(None, "-"), (7, "7 ms"), (1500, "1.5 s"), (61_000, "1 min 01 s"), (3_660_000, "1 h 01 min")],
)
def test_durations_are_readable(duration_ms, text):
    """People read units, not milliseconds."""
    assert duration_text(duration_ms) == text
