"""Texts that somebody chose to do harm, in every field that takes text: pages, REST, CSV and metrics show them as text."""

from __future__ import annotations

import csv
import html
import io
import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from accounts_app import signals
from accounts_app.roles import Role
from audit_app.models import AuditEntry
from tasks_app import services
from tasks_app.models import File, Result, Task, TaskOutput
from tasks_app.submission import TaskSpec
from tests.support.files import store_content
from tests.support.hostile_texts import FOR_PAGES, MARK, TEXTS, VISIBLE, Page
from workers_app import services as workers
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
SIGNS = "=+-@\t\r\n"


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    """Keep the contents of each test in a folder of its own."""
    settings.DB_PATH = tmp_path / "octaskly.db"


@pytest.fixture
def operator(client_of) -> Client:
    """An admin's browser, who may see everything."""
    admin = get_user_model().objects.create_superuser("root", password="pw-of-a-test")
    client = Client()
    client.force_login(admin)
    client.user = admin
    return client


@pytest.fixture
def one_of_each(operator, user_of) -> dict[str, str]:
    """Rows of every kind with such texts, as a hostile client, a worker and an operator would leave them."""
    texts = [text for text in FOR_PAGES if text.isprintable()]
    owner = user_of(Role.CLIENT, f"<b>{MARK}</b>")
    specs = [TaskSpec(command=text, name=text, env={"TEXT": text}) for text in texts]
    tasks = services.submit(owner, specs)
    worker = Worker.objects.create(
        id="w1", name=texts[0], public_key_sha256="k", created_at=NOW, admission="approved", platform=texts[1],
        software_version=texts[2], pause_reason=texts[3], address=texts[4], transport="tcp",
        levels=[{"level": "basic", "backend": texts[5], "gaps": [texts[6]]}],
        levels_unproven=[{"level": "strict", "reason": texts[7], "is_below_floor": False}],
    )  # fmt: skip
    for text, task in zip(texts, tasks, strict=True):
        result = Result.objects.create(
            attempt_id=f"{task.id}.1", task_id=task.id, attempt=1, worker_id="w1", state="ended", outcome="failed",
            failure_reason="exit_code", exit_code=1, detail=text, assigned_at=NOW, completed_at=NOW,
            stdout=text.encode(), stderr=text.encode(),
        )  # fmt: skip
        blob = store_content(text.encode())
        TaskOutput.objects.create(
            result=result, kind="file", name=text, sha256=blob, blob_id=blob, size_bytes=1, created_at=NOW
        )
        File.objects.create(owner=owner, name=text, blob_id=blob, created_at=NOW, used_at=NOW)
    Task.objects.update(
        status="failed", failure_reason="exit_code", exit_code=1, attempt=1, worker_id="w1", completed_at=NOW
    )
    workers.suspend(worker, operator.user, texts[8])
    for text in TEXTS:
        signals.permission_denied.send(sender=None, user=owner, method="GET", path=text, address=text[:39])
    return {"task": tasks[1].id, "worker": "w1"}


@pytest.mark.parametrize("text", [text for text in FOR_PAGES if "<" in text])
def test_a_page_that_does_not_escape_is_noticed(text):
    """The reader of pages below has teeth."""
    with pytest.raises(AssertionError):
        Page(f"<p><textarea><title><pre><style></style></title></textarea>{text}</p>").assert_harmless()


def test_pages_show_them_as_text(operator, one_of_each):
    """No element, attribute, handler or address comes of any, on pages, in the admin and in the browsable routes."""
    task, worker = one_of_each["task"], one_of_each["worker"]
    paths = [
        "/", "/tasks/", f"/tasks/{task}/", "/workers/", f"/workers/{worker}/", "/audit/", f"/tasks/?name={html.escape(FOR_PAGES[1])}",
        f"/login/?next={FOR_PAGES[0]}", "/admin/", "/admin/audit_app/auditentry/", "/admin/tasks_app/task/", f"/admin/tasks_app/task/{task}/change/",
        "/admin/workers_app/worker/", f"/admin/workers_app/worker/{worker}/change/", "/admin/tasks_app/file/", "/admin/auth/user/",
        "/api/v1/tasks", f"/api/v1/tasks/{task}", f"/api/v1/tasks/{task}/attempts", "/api/v1/workers", f"/api/v1/workers/{worker}", "/api/v1/audit",
        f"/api/v1/tasks?status={FOR_PAGES[0]}", f"/{FOR_PAGES[1]}",
    ]  # fmt: skip
    shown = 0
    for path in paths:
        answer = operator.get(path, HTTP_ACCEPT="text/html", HTTP_USER_AGENT=FOR_PAGES[0], follow=True)
        assert answer["Content-Type"].startswith("text/html"), path
        page = Page(answer.content.decode())
        page.assert_harmless()
        shown += page.text.count(MARK)
    assert shown > len(paths), "the texts do not stand on the pages at all"


def test_json_brings_them_back_as_they_were(operator, one_of_each):
    """Whatever they look like: the value is the same, and no browser takes the answer for a page."""
    answer = operator.get("/api/v1/tasks", HTTP_ACCEPT="application/json")
    assert answer["Content-Type"] == "application/json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert {task["name"] for task in answer.json()["results"]} == {text for text in FOR_PAGES if text.isprintable()}
    (worker,) = operator.get("/api/v1/workers", HTTP_ACCEPT="application/json").json()["results"]
    assert worker["admission_reason"] in FOR_PAGES


def test_no_cell_of_the_exported_audit_is_a_formula(operator, one_of_each):
    """And each row has as many cells as the first: no text ends its own cell."""
    assert AuditEntry.objects.filter(event_type="permission_denied").count() == len(TEXTS)
    answer = operator.get("/api/v1/audit/export?format=csv")
    text = b"".join(answer.streaming_content).decode() if answer.streaming else answer.content.decode()
    head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    assert len(rows) >= len(TEXTS)
    assert {len(row) for row in rows} == {len(head)}
    assert [cell for row in rows for cell in row if cell[:1] and cell[0] in SIGNS] == []


def test_no_label_of_a_metric_is_somebodys_text(operator, one_of_each):
    """So nobody can forge a sample, nor make as many series as he likes."""
    text = operator.get("/metrics").content.decode()
    assert MARK not in text
    assert "octaskly" in text


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_task_is_called_by_it_or_refused(client_of_once, text):
    """What is visible comes back; what is not is refused in one visible line that names the field, and never echoed raw."""
    answer = client_of_once.post("/api/v1/tasks", {"command": "true", "name": text}, format="json")
    if text in VISIBLE:
        assert answer.status_code == 201, answer.content
        assert answer.json()["name"] == text
    else:
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "name"
        assert json.loads(answer.content)["detail"].isprintable()


@pytest.fixture
def client_of_once(client_of):
    """A client user's REST client."""
    return client_of(Role.CLIENT)


@pytest.mark.parametrize("text", [*FOR_PAGES, "a\r\nX-Injected: 1", "\x00", "é\u202e"], ids=ascii)
def test_no_header_of_an_answer_takes_it_over(operator, text):
    """Not from an address, a query, nor a header of the request."""
    answer = operator.get(
        "/tasks/", {"next": text, "page": text}, HTTP_USER_AGENT=text, HTTP_REFERER=text, HTTP_X_FORWARDED_HOST=text
    )
    assert "X-Injected" not in answer
    assert all(value.isprintable() for value in answer.headers.values())
    assert not any(MARK in value for value in answer.headers.values())
