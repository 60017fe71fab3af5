"""What expires and what stays, on a real database and a real folder; and uploads that come while it happens."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from octaskly_site import expiry
from octaskly_site.database_lock import DatabaseLock
from tasks_app import retention
from tasks_app.blob_store import store
from tasks_app.models import Blob, File, Task, TaskInput, TaskOutput
from tasks_app.retention import Expired, expire
from tests.support.files import body, digest_of, leave_outputs, put, store_content, upload
from tests.support.wait import wait_until

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=20)
DAYS = timedelta(days=1)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path):
    """Keep the contents of each test in a folder of its own."""
    settings.DB_PATH = tmp_path / "octaskly.db"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def expire_at(now, *, outputs=30, uploads=1):
    """Let go of what is over its time then."""
    return expire(now, store(), keep_outputs_days=outputs, keep_uploads_days=uploads)


def submit(client, *inputs):
    """Submit a task with these inputs and return its id."""
    answer = client.post(URL, {"command": "true", "inputs": list(inputs)})
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def end(task_id, at=NOW):
    """End a task at this time."""
    Task.objects.filter(id=task_id).update(status="completed", completed_at=at)


def is_here(content):
    """Return whether a content is kept; its row and its file must agree."""
    digest = digest_of(content)
    has_row = Blob.objects.filter(sha256=digest).exists()
    assert store().path(digest).exists() == has_row
    return has_row


def test_old_outputs_expire_and_their_rows_stay(client):
    """After their days the contents are gone and the list tells so; a day before they are there."""
    task_id = submit(client)
    leave_outputs(task_id, a=b"output")
    leave_outputs(task_id, kind="stdout", stdout=b"stream")
    assert expire_at(NOW + 29 * DAYS) == Expired()
    expired = expire_at(NOW + 31 * DAYS)
    assert (expired.outputs, expired.contents, expired.bytes) == (2, 2, 12)
    assert not is_here(b"output")
    assert not is_here(b"stream")
    (output,) = client.get(f"{URL}/{task_id}/outputs").json()["results"]
    assert output["is_available"] is False
    assert client.get(f"{URL}/{task_id}/outputs/a").status_code == 410


def test_outputs_may_be_kept_for_ever(client):
    """0 days stand for that; of uploads, too."""
    leave_outputs(submit(client), a=b"output")
    upload(client, b"upload")
    assert expire_at(NOW + 10_000 * DAYS, outputs=0, uploads=0) == Expired()
    assert is_here(b"output")
    assert is_here(b"upload")


def test_unused_uploads_expire_and_named_files_do_not(client):
    """A name that somebody gave is kept until he takes it away."""
    upload(client, b"bare")
    put(client, "a", b"named")
    assert expire_at(NOW + timedelta(hours=23)) == Expired()
    expired = expire_at(NOW + timedelta(hours=25))
    assert (expired.uploads, expired.contents) == (1, 1)
    assert not is_here(b"bare")
    assert is_here(b"named")
    client.delete("/api/v1/files/a")
    assert expire_at(NOW + timedelta(hours=25)).contents == 1
    assert not is_here(b"named")


def test_what_an_unfinished_task_needs_stays(client):
    """However long it waits or runs, its inputs are kept, and the upload's name with them."""
    task_id = submit(client, f"a=sha256:{upload(client, b'input')}")
    assert expire_at(NOW + 400 * DAYS) == Expired()
    Task.objects.filter(id=task_id).update(status="running", assigned_at=NOW)
    assert expire_at(NOW + 400 * DAYS) == Expired()
    assert File.objects.count() == 1
    assert is_here(b"input")


def test_inputs_of_ended_tasks_expire_after_their_days(client):
    """Then a retry says so; before that it finds them, and a retried task has them for as long as it takes."""
    task_id = submit(client, f"a=sha256:{upload(client, b'input')}")
    end(task_id)
    expire_at(NOW + timedelta(hours=23))
    assert is_here(b"input")
    assert client.post(f"{URL}/{task_id}/retry").status_code == 200
    expire_at(NOW + 3 * DAYS)
    assert is_here(b"input")
    end(task_id)
    expired = expire_at(NOW + 3 * DAYS)
    assert (expired.uploads, expired.inputs, expired.contents) == (1, 1, 1)
    assert not is_here(b"input")
    refused = client.post(f"{URL}/{task_id}/retry")
    assert (refused.status_code, "'a'" in refused.json()["detail"]) == (409, True)


def test_inputs_that_something_else_keeps_stay_bound(client):
    """A named file or a kept output holds the content anyway, so the task can be retried with it."""
    put(client, "a", b"named")
    left = submit(client)
    leave_outputs(left, out=b"output")
    first, second = submit(client, "a"), submit(client, f"b=sha256:{digest_of(b'output')}")
    end(first)
    end(second)
    assert expire_at(NOW + 20 * DAYS).inputs == 0
    client.delete("/api/v1/files/a")
    assert expire_at(NOW + 20 * DAYS).inputs == 1
    assert not is_here(b"named")
    assert client.post(f"{URL}/{second}/retry").status_code == 200


def test_a_content_that_nothing_names_yet_has_half_a_day(client):
    """Stored for an outcome that is still on its way, it is kept; forgotten, it goes."""
    store_content(b"on its way")
    assert expire_at(NOW + timedelta(hours=11)).contents == 0
    assert is_here(b"on its way")
    assert expire_at(LATER).contents == 1
    assert not is_here(b"on its way")


def test_one_content_of_many_names_goes_with_the_last(client):
    """Files of two users, an input and an output: each alone keeps it."""
    content = b"shared"
    put(client, "a", content)
    task_id = submit(client, "a")
    leave_outputs(task_id, a=content)
    client.delete("/api/v1/files/a")
    expire_at(LATER)
    assert is_here(content)
    TaskOutput.objects.update(blob=None)
    expire_at(LATER)
    assert is_here(content)
    TaskInput.objects.update(blob=None)
    assert expire_at(LATER).contents == 1
    assert not is_here(content)


def test_what_went_is_in_the_audit_trail(client):
    """With the counts, a row for each transaction; a round in which nothing went writes nothing."""
    for number in range(3):
        upload(client, f"upload {number}".encode())
    expire_at(NOW)
    assert not AuditEntry.objects.filter(event_type="files_expired").exists()
    expire_at(NOW + 2 * DAYS)
    entries = AuditEntry.objects.filter(event_type="files_expired").order_by("id")
    assert [entry.details for entry in entries] == ['{"uploads":3}', '{"bytes":24,"contents":3}']


def test_more_rows_than_a_batch_all_go(client, monkeypatch):
    """Batches end with the rows, not before."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_REMOVED_AT_ONCE", 2)
    for number in range(5):
        upload(client, f"upload {number}".encode())
    expired = expire_at(NOW + 2 * DAYS)
    assert (expired.uploads, expired.contents) == (5, 5)


class InterruptedStore:
    """The store as retention sees it. Before it removes a file, another thread uploads that content again."""

    def __init__(self, upload_again):
        self.lock = self
        self._upload = threading.Thread(target=self._on_the_tests_connection(upload_again))

    def _on_the_tests_connection(self, work):
        # The test's own transaction is not over, so that another connection could neither see nor write.
        connection = connections["default"]
        connection.inc_thread_sharing()

        def run():
            connections["default"] = connection
            work()

        return run

    def unlink(self, sha256):
        self._upload.start()
        incoming = store().folder / "incoming"
        wait_until(lambda: any(path.stat().st_size for path in incoming.iterdir()), "the content has come again")
        store().unlink(sha256)

    def __enter__(self):
        store().lock.acquire()

    def __exit__(self, *_):
        assert self._upload.is_alive(), "the upload did not wait"
        store().lock.release()
        self._upload.join(20)
        connections["default"].dec_thread_sharing()


def test_a_content_that_comes_again_while_it_expires_is_kept(client):
    """Its row is gone and its file about to be: the upload waits, and afterwards file and row are both there."""
    put(client, "a", b"content")
    client.delete("/api/v1/files/a")
    answers = []
    interrupted = InterruptedStore(lambda: answers.append(put(client, "a", b"content")))
    expired = expire(LATER, interrupted, keep_outputs_days=30, keep_uploads_days=1)
    assert expired.contents == 1
    assert answers[0].status_code == 201
    assert is_here(b"content")
    assert body(client.get("/api/v1/files/a")) == b"content"


def test_the_command_prints_what_went(client, capsys, settings):
    """Beside a dispatcher it leaves contents to that one; alone it removes them, too."""
    upload(client, b"content")
    long_ago = NOW - 30 * DAYS
    File.objects.update(used_at=long_ago)
    Blob.objects.update(used_at=long_ago)
    with DatabaseLock(settings.DB_PATH):
        call_command("expirefiles")
    beside = capsys.readouterr()
    assert beside.out.splitlines() == ["outputs 0", "uploads 1", "inputs 0", "contents 0", "bytes 0"]
    assert "A dispatcher runs" in beside.err
    assert is_here(b"content")
    call_command("expirefiles")
    assert "contents 1\nbytes 7\n" in capsys.readouterr().out
    assert not is_here(b"content")


def test_a_round_that_fails_does_not_end_the_rounds(monkeypatch, caplog):
    """A database that is busy or full is told of, and the next round comes all the same."""
    rounds = []

    def busy():
        rounds.append(len(rounds))
        raise OperationalError("database is locked")

    monkeypatch.setattr(expiry, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(expiry, "EVERY_S", 0.0)
    monkeypatch.setattr(expiry, "expire_now", busy)

    async def run():
        async with expiry.files_expire():
            while len(rounds) < 3:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert "database is locked" in caplog.text
