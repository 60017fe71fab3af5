"""The list of tasks and the page of one: who sees what, in which words, and how it is looked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts_app.roles import Role
from dashboard_app import task_list
from dashboard_app.task_words import ending_words
from tasks_app import services
from tasks_app.ids import first_id
from tasks_app.models import Blob, OutputKind, Result, Task, TaskOutput
from tasks_app.submission import TaskSpec
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
HOSTILE = "</script><img src=x onerror=alert(1)>"
NOW = datetime.now(UTC)


@pytest.fixture
def submit(user_of):
    """Return a function that submits tasks of one client, each with this command."""
    owner = user_of(Role.CLIENT, "cleo")

    def make(*commands, **fields):
        tasks = services.submit(owner, [TaskSpec(command=command, **fields) for command in commands])
        return [Task.objects.get(id=task.id) for task in tasks]

    make.owner = owner
    return make


@pytest.fixture
def operator(client, user_of):
    """Return a dispatcher's browser."""
    client.force_login(user_of(Role.DISPATCHER, "dora"))
    return client


@pytest.fixture
def worker():
    """Return an approved worker that is not connected."""
    return Worker.objects.create(id="w1", name="pc-07", public_key_sha256="k", created_at=NOW, admission="approved")


def page_of(client, task):
    """Return the task's page."""
    answer = client.get(reverse("task-page", args=[task.id]))
    assert answer.status_code == 200
    return answer.content.decode()


def listed(client, query=""):
    """Return the ids on a page of the list, and the page."""
    answer = client.get(f"/tasks/{query}")
    assert answer.status_code == 200
    return re.findall(r'<tr data-key="([^"]+)"', answer.content.decode()), answer.content.decode()


def fail(task, reason, *, exit_code=None, detail="", signal=None, **result):
    """Let a task have failed on w1."""
    Task.objects.filter(id=task.id).update(
        status="failed", failure_reason=reason, exit_code=exit_code, attempt=1, worker_id="w1", duration_ms=65_000,
        started_at=NOW, completed_at=NOW,
    )  # fmt: skip
    task.refresh_from_db()
    return Result.objects.create(
        attempt_id=f"{task.id}.1", task=task, attempt=1, worker_id="w1", state="ended", outcome="failed",
        failure_reason=reason, exit_code=exit_code, signal=signal, detail=detail, assigned_at=NOW, completed_at=NOW,
        **result,
    )  # fmt: skip


def test_a_task_has_its_page(submit):
    """The model knows the address, so that the admin leads there."""
    (task,) = submit("true")
    assert task.get_absolute_url() == f"/tasks/{task.id}/"


def test_anothers_task_does_not_exist(client, user_of, submit):
    """A client gets its own page and a 404 for another's; a stranger is sent to the sign-in; no role, no page."""
    (task,) = submit("true")
    path = task.get_absolute_url()
    assert client.get(path)["Location"] == f"/login/?next={path}"
    for role, name, status in [(Role.CLIENT, "carl", 404), (Role.WORKER, "", 403), (Role.ADMIN, "", 200)]:
        client.force_login(user_of(role, name))
        assert client.get(path).status_code == status
    client.force_login(submit.owner)
    assert client.get(path).status_code == 200


def test_page_shows_what_was_asked_and_no_secret(operator, submit):
    """Command, limits and names of variables, not their values; what waits says why."""
    (task,) = submit("echo 1", name="nightly", env={"TOKEN": "hidden-value"}, timeout=90, priority=7)
    text = page_of(operator, task)
    for words in ("echo 1", "nightly", "TOKEN", "90 s", "Why it waits", "There is no worker", ">Cancel</button>"):
        assert words in text, words
    assert "hidden-value" not in text
    assert ">Retry</button>" not in text


def test_hostile_text_stays_text(operator, submit, worker):
    """HTML in command, name, detail of an attempt or a worker's name is shown, not obeyed."""
    (task,) = submit(HOSTILE, name=HOSTILE)
    Worker.objects.update(name=HOSTILE)
    fail(task, "staging", detail=HOSTILE)
    for text in (page_of(operator, task), listed(operator)[1]):
        assert "<img src=x" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_ended_task_tells_how(operator, submit, worker):
    """The reason in words, the attempt with its measures, a link to the worker, Retry instead of Cancel."""
    (task,) = submit("make")
    fail(
        task, "exit_code", exit_code=3, cpu_seconds=1.5, max_rss_bytes=5 << 20, spawn_seconds=0.0125, stdout_bytes=2048,
        sandbox_level="strict", sandbox_backend="linux-namespaces", limits={"memory_mb": "kernel", "timeout_s": "polled"},
    )  # fmt: skip
    text = page_of(operator, task)
    for words in (
        "Exit code 3", "1 min 05 s", "1.50 s", "5.0 MiB", "12.5 ms", "2.0 KiB", "kept by the kernel: memory",
        "kept by polling: time-out", 'href="/workers/w1/"', "pc-07", ">Retry</button>", "✗ make",
    ):  # fmt: skip
        assert words in text, words
    assert ">Cancel</button>" not in text
    assert 'id="task-why"' in text
    operator.force_login(submit.owner)
    assert 'href="/workers/w1/"' not in page_of(operator, task), "clients have no page of a worker"


@pytest.mark.parametrize(
    ("reason", "fields", "words"),
    [
        ("exit_code", {"exit_code": 3}, "exit code 3"),
        ("timeout", {}, "killed: ran longer than 3,600 s"),
        ("signal", {"signal": 11}, "killed by signal 11 (SIGSEGV)"),
        ("memory_limit", {}, "killed: more than 512 MB of memory"),
        ("disk_limit", {}, "killed: more than the disk that it may use"),
        ("worker_lost", {}, "given up: each worker that had it was lost"),
    ],
)
def test_reasons_are_plain_words(submit, worker, reason, fields, words):
    """With the limit that was asked for, where one was."""
    (task,) = submit("true")
    task.limits = {"memory_mb": 512}
    task.save()
    assert ending_words(task, fail(task, reason, **fields)) == words


def test_outputs_lead_to_their_contents(operator, submit, worker):
    """A file of an attempt has a link that names the attempt; one that expired has none."""
    (task,) = submit("make")
    result = fail(task, "exit_code", exit_code=1)
    blob = Blob.objects.create(sha256="a" * 64, size_bytes=7, created_at=NOW, used_at=NOW)
    for name, content in [("out dir/a&b.csv", blob), ("gone.csv", None)]:
        TaskOutput.objects.create(
            result=result, kind=OutputKind.FILE, name=name, sha256="a" * 64, size_bytes=7, blob=content, created_at=NOW
        )
    text = page_of(operator, task)
    assert f'href="/api/v1/tasks/{task.id}/outputs/out%20dir/a%26b.csv?attempt=1"' in text
    assert re.search(r"gone\.csv\s*<span[^>]*>not kept any more", text)


def test_list_shows_own_tasks_and_operators_all(client, user_of, submit, operator):
    """Newest first; who is no operator gets no column and no filter of owners and workers."""
    tasks = submit("a", "b")
    (other,) = services.submit(user_of(Role.CLIENT, "carl"), [TaskSpec(command="c")])
    assert listed(operator)[0] == [other.id, tasks[1].id, tasks[0].id]
    operator.force_login(submit.owner)
    ids, text = listed(operator)
    assert ids == [tasks[1].id, tasks[0].id]
    assert 'name="owner"' not in text
    assert 'name="worker_id"' not in text


def test_filters_stand_in_the_address(operator, submit):
    """Status, owner, text in any case, a whole id, and time; together they narrow; what is asked stays in the form."""
    old, train, test = submit("python OLD.py", "python train.py", "pytest")
    moment = NOW - timedelta(days=3)
    # An id says when it was made.
    old.id = f"{first_id(moment.timestamp())}-7000-8000-000000000000"
    Task.objects.filter(command=old.command).update(id=old.id, created_at=moment, status="cancelled")
    for query, expected in [
        ("?status=cancelled", [old]),
        ("?q=PYTHON", [train, old]),
        ("?q=python&status=queued", [train]),
        (f"?q={test.id}", [test]),
        ("?q=100%25", []),
        ("?owner=cleo", [test, train, old]),
        ("?owner=nobody", []),
        ("?within=3600", [test, train]),
        (f"?created_before={(moment + timedelta(hours=1)):%Y-%m-%dT%H:%M}", [old]),
        (f"?created_after={(NOW - timedelta(hours=2)):%Y-%m-%dT%H:%M}", [test, train]),
    ]:
        assert listed(operator, query)[0] == [task.id for task in expected], query
    text = listed(operator, "?q=python&status=queued")[1]
    assert 'value="python"' in text
    assert "<option selected>queued</option>" in text
    answer = operator.get("/tasks/?status=nonsense")
    assert answer.status_code == 400
    assert "nonsense" in answer.content.decode()


def test_pages_go_on_from_their_rows(operator, submit):
    """Older and newer lead to the pages beside, with the filter; new tasks move nothing."""
    ids = [task.id for task in submit(*["true"] * 120)][::-1]
    first, text = listed(operator, "?status=queued")
    assert first == ids[:50]
    older = re.search(r'href="(\?[^"]+)" rel="next"', text)[1].replace("&amp;", "&")
    assert "status=queued" in older
    submit("newer")
    second, text = listed(operator, older)
    assert second == ids[50:100]
    newer = re.search(r'href="(\?[^"]+)" rel="prev"', text)[1].replace("&amp;", "&")
    assert listed(operator, newer)[0] == first
    last, text = listed(operator, f"?before={ids[99]}")
    assert last == ids[100:]
    assert 'rel="next"' not in text


def test_a_search_reads_so_many_tasks_and_goes_on(operator, submit, monkeypatch):
    """What it has not read it says, and the next click reads on from there."""
    monkeypatch.setattr(task_list, "SEARCHED_TASKS", 3)
    ids = [task.id for task in submit("needle", *["hay"] * 5)]
    found, text = listed(operator, "?q=needle")
    assert found == []
    assert "Search older tasks" in text
    further = re.search(r'href="(\?[^"]+)" rel="next"', text)[1].replace("&amp;", "&")
    assert listed(operator, further)[0] == [ids[0]]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.CLIENT])
@pytest.mark.parametrize("query", ["", "?status=failed", "?owner=cleo", "?owner=cleo&status=queued", "?within=900"])
def test_list_is_read_by_indexes(client, user_of, submit, role, query):
    """Nothing is sorted and nothing scanned but in the order of an index, and no output is read."""
    submit("true")
    client.force_login(submit.owner if role is Role.CLIENT else user_of(role))
    with CaptureQueriesContext(connection) as queries:
        listed(client, query)
    reads = [query["sql"] for query in queries if 'FROM "tasks"' in query["sql"]]
    assert reads
    for sql in reads:
        assert '"stdout"' not in sql
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [row[3] for row in cursor.fetchall()]
        assert not any("TEMP B-TREE" in step for step in plan), plan
        assert all("INDEX" in step or "PRIMARY KEY" in step for step in plan), plan
