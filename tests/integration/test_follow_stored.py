"""After the end a reader goes on from what was stored, at the offset in the stream at which it was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from octaskly_wire.kept_output import marker
from tasks_app.blob_store import store
from tasks_app.ids import new_task_ids
from tasks_app.live.looks import Ending, look_at_task
from tasks_app.live.stored import open_stored
from tasks_app.models import Blob, OutputKind, Result, Task, TaskOutput
from tasks_app.output_records import join_ends

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, tzinfo=UTC)
STREAM = bytes(number * number % 251 for number in range(10_000))
KEPT = STREAM[:3000] + marker(5000) + STREAM[8000:]


@pytest.fixture
def add_attempt(django_user_model):
    """Return a function that makes an ended task with one attempt that kept this of its stdout."""
    owner = django_user_model.objects.create_user("owner")

    def add(kept: bytes, total_bytes: int, **changes) -> Result:
        fields = {"status": "completed", "attempt": 1, "exit_code": 0} | changes
        task = Task.objects.create(
            id=new_task_ids(1)[0],
            command="true",
            sandbox="basic",
            created_at=NOW,
            available_at=NOW,
            owner=owner,
            **fields,
        )
        return Result.objects.create(
            attempt_id=f"{task.id}.1",
            task=task,
            attempt=1,
            worker_id="w1",
            state="ended",
            outcome="completed",
            exit_code=0,
            assigned_at=NOW,
            stdout=kept,
            stdout_bytes=total_bytes,
            stdout_truncated=len(kept) != total_bytes,
        )

    return add


def content_of(result: Result, data: bytes) -> TaskOutput:
    """Store a content as the stdout of an attempt."""
    incoming = store().receive("", len(data), "somebody")
    incoming.write(data)
    digest = incoming.finish()
    incoming.close()
    return TaskOutput.objects.create(
        result=result, kind=OutputKind.STDOUT, sha256=digest, size_bytes=len(data), blob_id=digest, created_at=NOW
    )


def read_on(result: Result, offset: int, max_bytes: int) -> list[tuple[int, bytes]]:
    """Return the pieces that a reader gets from here to the end."""
    pieces = []
    kept = open_stored(result.attempt_id, "stdout")
    while True:
        piece = kept.read(offset, max_bytes)
        assert len(piece.data) <= max_bytes
        pieces.append((piece.offset, piece.data))
        offset = piece.offset + len(piece.data)
        if piece.is_end:
            kept.close()
            return pieces


def check(pieces: list[tuple[int, bytes]]) -> None:
    """Every byte is the one that the command wrote there."""
    for offset, data in pieces:
        assert data == STREAM[offset : offset + len(data)]


@pytest.mark.parametrize("is_content", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 2_999, 3_000, 3_001, 9_999, 10_000, 12_000])
def test_what_was_kept_whole_is_read_from_anywhere(add_attempt, offset, is_content):
    """From the attempt's row, or from the content where it is long."""
    result = add_attempt(b"ends" if is_content else STREAM, len(STREAM))
    if is_content:
        content_of(result, STREAM)
    pieces = read_on(result, offset, 4_000)
    assert b"".join(data for _, data in pieces) == STREAM[offset:]
    assert pieces[0][0] == offset


@pytest.mark.parametrize("is_content", [False, True])
@pytest.mark.parametrize(
    ("offset", "starts", "count"),
    [
        (0, [0, 1500, 8000, 9500], 5000),
        (2_999, [2_999, 8_000, 9_500], 2_001),
        (3_000, [8_000, 9_500], 2_000),
        (7_999, [8_000, 9_500], 2_000),
        (8_001, [8_001, 9_501], 1_999),
        (10_000, [10_000], 0),
    ],
)
def test_what_was_left_out_is_jumped_over(add_attempt, offset, starts, count, is_content):
    """The marker is not read as output; the next offset tells how much is missing."""
    result = add_attempt(b"ends" if is_content else KEPT, len(STREAM))
    if is_content:
        content_of(result, KEPT)
    pieces = read_on(result, offset, 1_500)
    check(pieces)
    assert [start for start, _ in pieces] == starts
    assert sum(len(data) for _, data in pieces) == count


def test_an_expired_content_leaves_its_ends(add_attempt):
    """They are in the attempt's row, and lie in the stream where they did."""
    result = add_attempt(join_ends(STREAM[:2000], STREAM[-2000:], 6000), len(STREAM))
    output = content_of(result, STREAM)
    TaskOutput.objects.filter(id=output.id).update(blob=None)
    Blob.objects.all().delete()
    pieces = read_on(result, 1_000, 10_000)
    check(pieces)
    assert [(start, len(data)) for start, data in pieces] == [(1_000, 1_000), (8_000, 2_000)]


def test_an_attempt_without_output_is_at_its_end(add_attempt):
    """So is one that nobody knows."""
    result = add_attempt(b"", 0)
    assert read_on(result, 0, 10) == [(0, b"")]
    assert open_stored("nobody.1", "stdout").read(5, 10).is_end


def test_a_task_is_seen_with_the_attempt_that_is_followed(add_attempt):
    """Its newest while none is named; none before the first, and nothing once the task is gone."""
    result = add_attempt(b"", 0)
    task = look_at_task(result.task_id, 0)
    assert task is not None
    assert (task.status, task.latest, task.ending) == ("completed", 1, Ending("completed", 0, None))
    assert task.attempt is not None
    assert (task.attempt.number, task.attempt.worker_id, task.attempt.ending) == (1, "w1", Ending("completed", 0, None))
    Task.objects.filter(id=result.task_id).update(attempt=0, status="queued")
    result.delete()
    waiting = look_at_task(result.task_id, 0)
    assert waiting is not None
    assert (waiting.status, waiting.ending, waiting.attempt) == ("queued", None, None)
    Task.objects.all().delete()
    assert look_at_task(result.task_id, 0) is None
