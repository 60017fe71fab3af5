"""The engine's store and files: inputs of what it hands out, rows of what attempts left, ends of long streams."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from audit_app.models import AuditEntry
from dispatcher.ports import AttemptKey, Ceiling, ClaimTask, RecordGivenUp, RecordOutcome, RecordSuperseded
from octaskly_wire.messages import CapturedOutput, InputFile, Limits, OutcomeReport, OutputFile
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import DispatchStore
from tasks_app.ids import new_task_ids
from tasks_app.models import Blob, OutputKind, Result, Task, TaskInput, TaskOutput
from tests.support.statements import statements

pytestmark = pytest.mark.django_db

BASIC = (SandboxLevel.BASIC, False)


@pytest.fixture
def blobs(tmp_path):
    """Return an empty store of contents."""
    return BlobStore(tmp_path / "blobs", max_bytes=1 << 30, reserve_bytes=0)


@pytest.fixture
def store(blobs):
    """Return the engine's store."""
    return DispatchStore(blobs)


@pytest.fixture
def keep(blobs):
    """Return a function that stores a content and returns its digest."""

    def keep(content):
        incoming = blobs.receive("", len(content), "somebody")
        incoming.write(content)
        digest = incoming.finish()
        incoming.close()
        return digest

    return keep


@pytest.fixture
def add_task(django_user_model):
    """Return a function that queues a task with these inputs, name by name with its digest, None for a lost one."""
    owner = django_user_model.objects.create_user("owner")

    def add(inputs=None, **changes):
        now = datetime.now(UTC)
        fields = {"command": "true", "sandbox": "basic", "created_at": now, "available_at": now, "owner": owner}
        task = Task.objects.create(id=new_task_ids(1)[0], inputs=list(inputs or {}), **(fields | changes))
        for name, digest in (inputs or {}).items():
            TaskInput.objects.create(task=task, name=name, blob_id=digest)
        return task

    return add


def report(**changes):
    """Return an outcome report."""
    fields = {"failure_reason": None, "exit_code": 0, "duration_ms": 7, "sandbox": SandboxLevel.BASIC, "backend": "s"}
    return OutcomeReport(**(fields | changes))


def end(store, task, number=1, **changes):
    """Claim the task's next attempt and let it end; return its key."""
    key = AttemptKey(task.id, number)
    assert store.commit([ClaimTask(key, "w1")]) == frozenset()
    store.commit([RecordOutcome(key, "w1", report(**changes), b"", b"", None)])
    return key


def test_a_task_is_handed_out_with_its_files(store, add_task, keep):
    """In the order in which they were named, with the size of each content, whichever way the queue is read."""
    cat, dog = keep(b"cat"), keep(b"a dog")
    task = add_task({"z/cat": cat, "dog": dog}, outputs=["*.png", "log"])
    expected = ((InputFile("z/cat", cat, 3), InputFile("dog", dog, 5)), ("*.png", "log"))
    (ready,) = store.fetch_ready([BASIC], 10)
    assert (ready.inputs, ready.outputs) == expected
    (fitting,) = store.fetch_fitting(BASIC, Ceiling(Limits(), None), 10)
    assert (fitting.inputs, fitting.outputs) == expected
    store.commit([ClaimTask(AttemptKey(task.id, 1), "w1")])
    (recovered,) = store.recover()
    assert (recovered.task.inputs, recovered.task.outputs) == expected


def test_tasks_without_files_cost_no_look_for_them(store, add_task, keep):
    """One query looks for pauses that are over, one reads a queue without inputs, one more a queue with them."""
    for _ in range(3):
        add_task()
    with statements() as asked:
        store.fetch_ready([BASIC], 10)
    assert len(asked) == 2
    add_task({"a": keep(b"a")})
    add_task({"b": keep(b"b")})
    with statements() as asked:
        assert len(store.fetch_ready([BASIC], 10)) == 5
    assert len(asked) == 3


def test_a_task_whose_input_is_gone_fails_and_hides_no_other(store, add_task, keep):
    """It is given to nobody; the answer is as full as the queue is."""
    lost = add_task({"a": keep(b"a"), "b": None})
    others = [add_task().id, add_task().id]
    assert [task.task_id for task in store.fetch_ready([BASIC], 2)] == others
    lost.refresh_from_db()
    assert (lost.status, lost.failure_reason, lost.attempt) == ("failed", "staging", 0)
    [entry] = AuditEntry.objects.filter(task_id=lost.id)
    assert entry.event_type == "task_finished"
    assert json.loads(entry.details)["detail"] == "the content of the input 'b' is gone"


def test_what_an_attempt_left_has_rows(store, add_task, keep):
    """Each file by its name, bound to its content."""
    digest = keep(b"pixels")
    outputs = [OutputFile("a.png", digest, 6), OutputFile("b/copy.png", digest, 6)]
    key = end(store, add_task(), outputs=outputs)
    rows = TaskOutput.objects.filter(result_id=key.attempt_id).order_by("name")
    assert [(row.name, row.kind, row.sha256, row.size_bytes, row.blob_id) for row in rows] == [
        ("a.png", OutputKind.FILE, digest, 6, digest),
        ("b/copy.png", OutputKind.FILE, digest, 6, digest),
    ]


def test_a_file_whose_content_is_not_here_has_a_row_without_content(store, add_task):
    """What the worker said is kept; nothing is promised."""
    end(store, add_task(), outputs=[OutputFile("a", "ab" * 32, 9)])
    row = TaskOutput.objects.get()
    assert (row.blob_id, row.sha256, row.size_bytes) == (None, "ab" * 32, 9)


def test_outputs_belong_to_each_attempt_and_to_its_first_outcome(store, add_task, keep):
    """A failed try's files stay with it; an outcome that is told twice adds nothing."""
    task = add_task(max_retries=1)
    first = AttemptKey(task.id, 1)
    failed = report(failure_reason=FailureReason.EXIT_CODE, exit_code=1, outputs=[OutputFile("log", keep(b"1"), 1)])
    store.commit([ClaimTask(first, "w1"), RecordOutcome(first, "w1", failed, b"", b"", 0.0)])
    store.commit([RecordOutcome(first, "w1", failed, b"", b"", 0.0)])
    assert store.commit([RecordSuperseded(first, "w1", failed, b"", b"")]) == frozenset()
    end(store, task, 2, outputs=[OutputFile("log", keep(b"22"), 2)])
    assert list(TaskOutput.objects.order_by("result_id").values_list("result__attempt", "size_bytes")) == [
        (1, 1), (2, 2),
    ]  # fmt: skip


def test_other_files_make_another_outcome(store, add_task, keep):
    """A second outcome that differs in its files only is refused."""
    key = end(store, add_task(), outputs=[OutputFile("a", keep(b"1"), 1)])
    other = report(outputs=[OutputFile("a", keep(b"2"), 1)])
    assert store.commit([RecordSuperseded(key, "w1", other, b"", b"")]) == {key}


def test_files_of_a_late_outcome_stay_with_its_attempt(store, add_task, keep):
    """As its output does."""
    task = add_task()
    key = AttemptKey(task.id, 1)
    store.commit([ClaimTask(key, "w1"), RecordGivenUp(key, "w1", True, "silent", 0.0)])
    late = report(outputs=[OutputFile("a", keep(b"late"), 4)], stdout=stored(keep(b"said late"), 9))
    assert store.commit([RecordSuperseded(key, "w1", late, b"", b"")]) == frozenset()
    assert TaskOutput.objects.filter(result_id=key.attempt_id).count() == 2
    assert bytes(Result.objects.get().stdout) == b"said late"


def stored(digest, size, *, is_truncated=False):
    """Return an output stream that was stored ahead of its outcome."""
    return CapturedOutput(total_bytes=size, kept_bytes=size, is_truncated=is_truncated, data=None, sha256=digest)


def test_a_long_stream_shows_its_ends_and_keeps_its_content(store, add_task, keep):
    """The rows have the first and the last 32 KiB, the content is all of it."""
    content = b"a" * 100_000 + b"z" * 100_000
    digest = keep(content)
    task = add_task()
    key = end(store, task, stdout=stored(digest, len(content)))
    task.refresh_from_db()
    gap = f"\n[... {len(content) - 65536} bytes left out ...]\n"
    assert task.stdout == "a" * 32768 + gap + "z" * 32768
    assert task.stdout_truncated
    assert bytes(Result.objects.get().stdout).decode() == task.stdout
    row = TaskOutput.objects.get()
    assert (row.kind, row.name, row.blob_id, row.size_bytes) == (OutputKind.STDOUT, "", digest, len(content))
    again = report(stdout=stored(digest, len(content)))
    assert store.commit([RecordSuperseded(key, "w1", again, b"", b"")]) == frozenset(), "sent twice is no crime"


@pytest.mark.parametrize("is_truncated", [True, False])
def test_a_short_stored_stream_is_shown_whole(store, add_task, keep, is_truncated):
    """Nothing is left out here; what the worker left out stays left out."""
    task = add_task()
    end(store, task, stderr=stored(keep(b"caf\xc3\xa9\n"), 6, is_truncated=is_truncated))
    task.refresh_from_db()
    assert (task.stderr, task.stderr_truncated) == ("caf\xe9\n", is_truncated)
    assert TaskOutput.objects.get().kind == OutputKind.STDERR


def test_an_outcome_is_taken_though_its_stream_is_not_here(store, add_task):
    """A content that was lost cannot keep a task from ending; the row says that something is missing."""
    task = add_task()
    end(store, task, stdout=stored(sha256(b"lost").hexdigest(), 4))
    task.refresh_from_db()
    assert (task.status, task.stdout, task.stdout_truncated) == ("completed", "", True)
    assert not Blob.objects.exists()
