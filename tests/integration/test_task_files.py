"""What tasks have to do with files, over REST: inputs that are bound at submission, outputs that are read back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts_app.roles import Role
from tasks_app.models import File, Task, TaskInput, TaskOutput
from tests.support.files import FILES, body, digest_of, leave_outputs, put, store_content, upload
from tests.support.submitting import submit

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks"


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path):
    """Keep the contents of each test in a folder of its own."""
    settings.DB_PATH = tmp_path / "octaskly.db"


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT)


def inputs_of(task):
    """Return which content each input of the task is bound to."""
    return dict(TaskInput.objects.filter(task_id=task["id"]).values_list("name", "blob_id"))


def test_inputs_are_bound_when_the_task_is_submitted(client):
    """By name and by content; the task shows them as they were given, and outputs as well."""
    put(client, "data/a.csv", b"named")
    digest = upload(client, b"bare")
    inputs = ["data/a.csv", f"tool.sh=sha256:{digest}"]
    task = submit(client, inputs=inputs, outputs=["out/*.png", "log"])
    assert (task["inputs"], task["outputs"]) == (inputs, ["out/*.png", "log"])
    assert client.get(f"{URL}/{task['id']}").json().items() <= task.items()
    assert inputs_of(task) == {"data/a.csv": digest_of(b"named"), "tool.sh": digest}


def test_a_task_keeps_what_a_name_stood_for(client):
    """Another content under the name, or none at all, changes nothing for tasks that were submitted before."""
    put(client, "a", b"one")
    before = submit(client, inputs=["a"])
    put(client, "a", b"two")
    after = submit(client, inputs=["a"])
    client.delete(f"{FILES}/a")
    assert inputs_of(before) == {"a": digest_of(b"one")}
    assert inputs_of(after) == {"a": digest_of(b"two")}


def test_a_missing_file_is_named_and_nothing_is_submitted(client):
    """Alone and at its place in a list, with what to do about it."""
    put(client, "there", b"x")
    answer = client.post(URL, {"command": "true", "inputs": ["there", "my data.csv"]})
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {
            "field": "inputs",
            "message": "there is no file 'my data.csv'; upload it with PUT /api/v1/files/my%20data.csv",
        }
    ]
    good = {"command": "true", "inputs": ["there"]}
    listed = client.post(URL, [good, good, good, {"command": "true", "inputs": ["nowhere"]}])
    assert (listed.status_code, listed.json()["errors"][0]["field"]) == (400, "[3].inputs")
    assert not Task.objects.exists()
    assert not TaskInput.objects.exists()


def test_a_digest_is_accepted_only_from_who_has_the_content(client, client_of):
    """An own file of any name, an own upload, an output of an own task; nothing of somebody else's."""
    stranger = client_of(Role.CLIENT, "stranger")
    put(stranger, "secret", b"of a file")
    upload(stranger, b"of an upload")
    theirs = submit(stranger)
    leave_outputs(theirs["id"], out=b"of a task")
    store_content(b"of nobody")
    for content in (b"of a file", b"of an upload", b"of a task", b"of nobody", b"of nowhere"):
        asked = {"command": "true", "inputs": [f"x=sha256:{digest_of(content)}"]}
        answer = client.post(URL, asked)
        assert answer.status_code == 400, content
        assert digest_of(content) in answer.json()["errors"][0]["message"]
    put(client, "mine", b"of a file")
    upload(client, b"of an upload")
    own = submit(client)
    leave_outputs(own["id"], out=b"of a task")
    for content in (b"of a file", b"of an upload", b"of a task"):
        task = submit(client, inputs=[f"x=sha256:{digest_of(content)}"])
        assert inputs_of(task) == {"x": digest_of(content)}


def test_another_clients_name_is_no_input(client, client_of):
    """Names are looked up among the owner's own, also for an operator."""
    put(client_of(Role.CLIENT, "stranger"), "a", b"x")
    assert client.post(URL, {"command": "true", "inputs": ["a"]}).status_code == 400
    assert client_of(Role.ADMIN).post(URL, {"command": "true", "inputs": ["a"]}).status_code == 400


def test_many_tasks_with_the_same_inputs_cost_few_queries(client, django_assert_max_num_queries):
    """Each name is looked up once, whatever the number of tasks."""
    put(client, "a", b"a")
    digest = upload(client, b"b")
    tasks = [{"command": f"echo {number}", "inputs": ["a", f"b=sha256:{digest}"]} for number in range(1000)]
    with django_assert_max_num_queries(100):
        answer = client.post(URL, tasks)
    assert answer.status_code == 201
    assert TaskInput.objects.count() == 2000
    assert TaskInput.objects.filter(blob_id=digest).count() == 1000


def test_a_task_without_files_asks_nothing_about_them(client):
    """What most tasks are costs no query more than before there were files."""
    with CaptureQueriesContext(connection) as captured:
        submit(client)
    statements = [query["sql"] for query in captured.captured_queries]
    assert statements
    assert not [sql for sql in statements if any(table in sql for table in ('"blobs"', '"files"', '"task_inputs"'))]


def test_naming_a_file_notes_its_use(client):
    """So that what tasks use does not expire under them."""
    digest = upload(client, b"x")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    File.objects.update(used_at=long_ago)
    submit(client, inputs=[f"a=sha256:{digest}"])
    file = File.objects.select_related("blob").get()
    assert file.used_at > long_ago
    assert file.blob.used_at > long_ago


def test_a_repeated_submission_with_inputs_counts_once(client):
    """The same tasks come back, with the inputs they have."""
    put(client, "a", b"x")
    first = client.post(URL, {"command": "true", "inputs": ["a"]}, HTTP_IDEMPOTENCY_KEY="k")
    client.delete(f"{FILES}/a")
    again = client.post(URL, {"command": "true", "inputs": ["a"]}, HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert TaskInput.objects.count() == 1


def test_a_task_whose_input_has_expired_cannot_be_retried(client):
    """The conflict names the file; with its content there the task runs again."""
    put(client, "a.txt", b"x")
    task = submit(client, inputs=["a.txt"])
    Task.objects.update(status="failed")
    TaskInput.objects.update(blob=None)
    answer = client.post(f"{URL}/{task['id']}/retry")
    assert answer.status_code == 409
    assert "'a.txt'" in answer.json()["detail"]
    assert Task.objects.get().status == "failed"
    TaskInput.objects.update(blob_id=digest_of(b"x"))
    assert client.post(f"{URL}/{task['id']}/retry").status_code == 200


def test_outputs_are_listed_and_read(client):
    """Of the latest attempt, or of the one that is asked for, with Range like any file."""
    task = submit(client, outputs=["*"])
    outputs = f"{URL}/{task['id']}/outputs"
    assert client.get(outputs).json()["results"] == []
    leave_outputs(task["id"], attempt=1, a__txt=b"first")
    leave_outputs(task["id"], attempt=2, b__bin=bytes(range(256)), a__txt=b"second")
    assert client.get(outputs).json()["results"] == [
        {"name": "a.txt", "size": 6, "sha256": digest_of(b"second"), "is_available": True, "attempt": 2},
        {"name": "b.bin", "size": 256, "sha256": digest_of(bytes(range(256))), "is_available": True, "attempt": 2},
    ]
    assert [output["size"] for output in client.get(f"{outputs}?attempt=1").json()["results"]] == [5]
    assert client.get(f"{outputs}?attempt=3").status_code == 404
    assert client.get(f"{outputs}?attempt=x").json()["errors"][0]["field"] == "attempt"
    got = client.get(f"{outputs}/b.bin")
    assert (body(got), got["ETag"]) == (bytes(range(256)), f'"{digest_of(bytes(range(256)))}"')
    assert got["Content-Disposition"] == 'attachment; filename="b.bin"'
    assert got["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert body(client.get(f"{outputs}/a.txt?attempt=1")) == b"first"
    assert body(client.get(f"{outputs}/b.bin", HTTP_RANGE="bytes=1-3")) == b"\1\2\3"
    assert client.head(f"{outputs}/b.bin")["Content-Length"] == "256"
    missing = client.get(f"{outputs}/c/d")
    assert missing.status_code == 404
    assert "'c/d'" in missing.json()["detail"]


def test_an_expired_output_is_gone_and_says_so(client):
    """The list still tells what there was; the download is 410 with the name."""
    task = submit(client, outputs=["a"])
    leave_outputs(task["id"], a=b"x")
    TaskOutput.objects.update(blob=None)
    (output,) = client.get(f"{URL}/{task['id']}/outputs").json()["results"]
    assert (output["is_available"], output["sha256"]) == (False, digest_of(b"x"))
    gone = client.get(f"{URL}/{task['id']}/outputs/a")
    assert (gone.status_code, gone["Content-Type"]) == (410, "application/problem+json")
    assert "'a'" in gone.json()["detail"]


def test_a_long_stream_is_served_whole_from_its_content(client):
    """While the content is kept; afterwards what the attempt's row has of it."""
    task = submit(client)
    url = f"{URL}/{task['id']}/stdout"
    long = b"line\n" * 400_000
    leave_outputs(task["id"], kind="stdout", stdout=long)
    Task.objects.get().results.update(stdout=b"head and tail", stderr=b"short")
    got = client.get(url)
    assert (body(got), got["Content-Type"]) == (long, "text/plain; charset=utf-8")
    part = client.get(url, HTTP_RANGE="bytes=1000000-1000009")
    assert (part.status_code, body(part)) == (206, long[1_000_000:1_000_010])
    assert part["Content-Range"] == f"bytes 1000000-1000009/{len(long)}"
    assert body(client.get(f"{URL}/{task['id']}/stderr")) == b"short"
    assert client.get(f"{URL}/{task['id']}/outputs").json()["results"] == []
    TaskOutput.objects.update(blob=None)
    assert body(client.get(url)) == b"head and tail"


@pytest.fixture
def browser(client_of):
    """Return a browser session of an admin who may enter the admin."""
    user = client_of(Role.ADMIN, "root").user
    user.is_staff = user.is_superuser = True
    user.save()
    session = Client()
    session.force_login(user)
    return session


def test_the_admin_shows_files_and_gives_them_out(client, browser):
    """In the list of files and at a task, each with a link to the bytes; an expired one without."""
    put(client, "in/a.csv", b"named")
    task = submit(client, inputs=["in/a.csv"], outputs=["*"])
    leave_outputs(task["id"], left__txt=b"output", old__txt=b"old")
    TaskOutput.objects.filter(name="old.txt").update(blob=None)
    files = browser.get(reverse("admin:tasks_app_file_changelist")).content.decode()
    assert "in/a.csv" in files
    page = browser.get(reverse("admin:tasks_app_task_change", args=[task["id"]])).content.decode()
    assert "old.txt (expired)" in page
    for name, content in (("in/a.csv", b"named"), ("left.txt", b"output")):
        link = reverse("admin:tasks_app_content", args=[digest_of(content), name])
        assert f'href="{link}"' in page
        got = browser.get(link)
        assert (body(got), got["Content-Security-Policy"]) == (content, "sandbox; default-src 'none'")
    assert f'href="{reverse("admin:tasks_app_content", args=[digest_of(b"named"), "in/a.csv"])}"' in files
    file = File.objects.get(name="in/a.csv")
    assert browser.get(reverse("admin:tasks_app_file_change", args=[file.pk])).status_code == 200
    assert Client().get(link).status_code == 302
