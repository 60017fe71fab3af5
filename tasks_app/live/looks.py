"""Looks into the database that following takes, each short and on a thread of the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO, TypeVar

from channels.db import database_sync_to_async

from octaskly_wire.kept_output import MAX_MARKER_BYTES, MAX_TAIL_BYTES, KeptShape, find_shape
from octaskly_wire.vocabulary import OutputStream
from tasks_app.blob_store import store
from tasks_app.models import AttemptState, OutputKind, Result, Task, TaskOutput, TaskStatus
from tasks_app.transitions import ENDED

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ended, or one attempt of it."""

    status: str
    exit_code: int | None
    failure_reason: str | None


@dataclass(frozen=True, slots=True)
class AttemptLook:
    """The attempt that is followed."""

    number: int
    attempt_id: str
    worker_id: str
    ending: Ending | None


@dataclass(frozen=True, slots=True)
class TaskLook:
    """A task as somebody sees it who follows one of its attempts."""

    status: str
    latest: int
    """Number of its newest attempt, 0 before the first."""
    ending: Ending | None
    attempt: AttemptLook | None


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of a stream, after the offset at which they begin."""

    offset: int
    data: bytes
    is_end: bool


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a look on the pool; it must not be one that holds its thread for long."""
    result: T = await database_sync_to_async(function, thread_sensitive=False)(*arguments)
    return result


def look_at_task(task_id: str, number: int) -> TaskLook | None:
    """Return the task with this attempt, or its newest when the number is 0; None when the task is gone."""
    columns = ("status", "attempt", "exit_code", "failure_reason")
    row = Task.objects.filter(id=task_id).values_list(*columns).first()
    if row is None:
        return None
    status, latest, exit_code, failure_reason = row
    ending = Ending(status, exit_code, failure_reason) if TaskStatus(status) in ENDED else None
    return TaskLook(status, latest, ending, _look_at_attempt(task_id, number or latest))


def _look_at_attempt(task_id: str, number: int) -> AttemptLook | None:
    columns = ("attempt_id", "worker_id", "state", "outcome", "exit_code", "failure_reason")
    row = Result.objects.filter(task_id=task_id, attempt=number).values_list(*columns).first()
    if row is None:
        return None
    attempt_id, worker_id, state, outcome, exit_code, failure_reason = row
    ending = Ending(outcome or "", exit_code, failure_reason) if state == AttemptState.ENDED else None
    return AttemptLook(number, attempt_id, worker_id, ending)


def read_stored(attempt_id: str, stream: OutputStream, offset: int, max_bytes: int) -> Piece:
    """Return what was kept of an ended attempt's stream from this offset in the stream on."""
    columns = (stream, f"{stream}_bytes")
    row = Result.objects.filter(attempt_id=attempt_id).values_list(*columns).first()
    if row is None:
        return Piece(offset, b"", is_end=True)
    content = _content_of(attempt_id, stream)
    with content or BytesIO(bytes(row[0])) as kept:
        return _read_kept(kept, row[1], offset, max_bytes)


def _content_of(attempt_id: str, stream: OutputStream) -> BinaryIO | None:
    """Return where long output lies; None when the attempt's row has all, or the content has expired."""
    stored = TaskOutput.objects.filter(result_id=attempt_id, kind=OutputKind(stream), blob__isnull=False)
    sha256 = stored.values_list("blob_id", flat=True).first()
    if sha256 is None:
        return None
    try:
        return store().open(sha256)
    except FileNotFoundError:
        return None


def _read_kept(kept: BinaryIO, total_bytes: int, offset: int, max_bytes: int) -> Piece:
    kept_bytes = kept.seek(0, SEEK_END)
    shape = KeptShape(kept_bytes)
    if kept_bytes != total_bytes:
        kept.seek(max(0, kept_bytes - MAX_TAIL_BYTES - MAX_MARKER_BYTES))
        shape = find_shape(kept.read(), kept_bytes, total_bytes)
    start, place = shape.place_of(offset)
    # A piece ends where the head ends: what follows there is the marker, which is told as a gap.
    end = shape.head_bytes if place < shape.head_bytes else kept_bytes
    kept.seek(min(place, kept_bytes))
    data = kept.read(max(0, min(end - place, max_bytes)))
    return Piece(start, data, is_end=place + len(data) >= kept_bytes)
