"""Lets go of what is kept for a time only: old outputs, unused uploads, and then every content that nothing names.

Each step takes a bounded number of rows a call and short transactions, so that neither submissions nor the engine wait
for it; what is left over is taken by the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from audit_app.trail import AuditEvent, record
from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.models import Blob, File, Task, TaskInput, TaskOutput
from tasks_app.transitions import ENDED

MAX_ROWS: Final = 20_000
"""Of each kind a call."""
BATCH_ROWS: Final = 500
MAX_REMOVED_AT_ONCE: Final = 50
"""Whoever stores a content meanwhile waits for so many files to be removed, and not longer."""
UNNAMED_LIFETIME: Final = timedelta(hours=12)
"""A content is stored before something names it: a file's name, an outcome whose other files take hours to come."""

_UPLOAD: Final = Q(name__startswith=DIGEST_PREFIX)


class KeptContents(Protocol):
    """What this needs of the blob store."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while rows and files of contents come and go."""

    def unlink(self, sha256: str) -> None:
        """Remove the file of a content whose row is gone."""


@dataclass(slots=True)
class Expired:
    """How much was let go of."""

    outputs: int = 0
    uploads: int = 0
    inputs: int = 0
    contents: int = 0
    bytes: int = 0


def expire(now: datetime, store: KeptContents | None, *, keep_outputs_days: float, keep_uploads_days: float) -> Expired:
    """Let go of what is over its time; 0 days stand for ever. Raises OperationalError while the database is busy.

    Without a store only names and references go: contents are removed by the process that also takes them in.
    """
    expired = Expired()
    if keep_outputs_days:
        expired.outputs = _expire_outputs(now - timedelta(days=keep_outputs_days), now)
    if keep_uploads_days:
        cutoff = now - timedelta(days=keep_uploads_days)
        expired.uploads = _expire_uploads(cutoff, now)
        expired.inputs = _expire_inputs(cutoff, now)
    if store is not None:
        _remove_contents(now, store, expired)
    return expired


def _expire_outputs(cutoff: datetime, now: datetime) -> int:
    """Let go of the contents of old outputs; their rows stay and tell what there was."""
    old = TaskOutput.objects.filter(created_at__lt=cutoff, blob__isnull=False).order_by("created_at")
    return _in_batches(old, lambda keys: TaskOutput.objects.filter(pk__in=keys).update(blob=None), "outputs", now)


def _expire_uploads(cutoff: datetime, now: datetime) -> int:
    unfinished = TaskInput.objects.filter(blob=OuterRef("blob")).exclude(task__status__in=ENDED)
    unused = File.objects.filter(_UPLOAD, ~Exists(unfinished), used_at__lt=cutoff)

    def remove(keys: Sequence[Any]) -> int:
        # Asked again: meanwhile it may have been uploaded anew or named by a task.
        return unused.filter(pk__in=keys).delete()[0]

    return _in_batches(unused, remove, "uploads", now)


def _expire_inputs(cutoff: datetime, now: datetime) -> int:
    """Let go of the inputs of tasks that ended long ago, where nothing else keeps their contents anyway."""
    named = File.objects.filter(~_UPLOAD, blob=OuterRef("blob"))
    output = TaskOutput.objects.filter(blob=OuterRef("blob"))
    # Asked for each input: joined, SQLite would begin with all tasks that have ended.
    ended = Task.objects.filter(pk=OuterRef("task"), status__in=ENDED, completed_at__lt=cutoff)
    old = TaskInput.objects.filter(
        ~Exists(named),
        ~Exists(output),
        Exists(ended),
        # Naming a content notes its use: of those that were used lately nothing has to be looked through.
        blob__used_at__lt=cutoff,
    ).order_by()

    def let_go(keys: Sequence[Any]) -> int:
        # Asked again, as a task may have been retried.
        return TaskInput.objects.filter(pk__in=old.filter(pk__in=keys)).update(blob=None)

    return _in_batches(old, let_go, "inputs", now)


def _in_batches(rows: QuerySet[Any], let_go: Callable[[Sequence[Any]], int], kind: str, now: datetime) -> int:
    """Let go of up to MAX_ROWS of these, found in one reading and changed in short transactions."""
    keys = list(rows.values_list("pk", flat=True)[:MAX_ROWS])
    return sum(_in_transaction(let_go, some, kind, now) for some in _sliced(keys, BATCH_ROWS))


def _in_transaction(let_go: Callable[[Sequence[Any]], int], keys: Sequence[Any], kind: str, now: datetime) -> int:
    with transaction.atomic():
        count = let_go(keys)
        if count:
            record(AuditEvent("files_expired", "engine", details={kind: count}), at=now)
    return count


def _remove_contents(now: datetime, store: KeptContents, expired: Expired) -> None:
    """Remove contents that nothing names: first the rows, then the files, under the store's lock."""
    unnamed = Blob.objects.filter(
        ~Exists(File.objects.filter(blob=OuterRef("pk"))),
        ~Exists(TaskInput.objects.filter(blob=OuterRef("pk"))),
        ~Exists(TaskOutput.objects.filter(blob=OuterRef("pk"))),
        used_at__lt=now - UNNAMED_LIFETIME,
    )
    keys = list(unnamed.values_list("pk", flat=True)[:MAX_ROWS])
    for some in _sliced(keys, MAX_REMOVED_AT_ONCE):
        # The lock first: who stores a content holds it and may wait for the database.
        with store.lock:
            with transaction.atomic():
                # Asked again: the same content may just have come anew.
                gone = dict(unnamed.filter(pk__in=some).values_list("pk", "size_bytes"))
                Blob.objects.filter(pk__in=gone).delete()
                if gone:
                    details = {"contents": len(gone), "bytes": sum(gone.values())}
                    record(AuditEvent("files_expired", "engine", details=details), at=now)
            for sha256 in gone:
                store.unlink(sha256)
        expired.contents += len(gone)
        expired.bytes += sum(gone.values())


def _sliced(keys: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
