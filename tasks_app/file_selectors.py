"""Reads of files and contents: who may name which, and how much a user keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from django.db.models import Exists, OuterRef, QuerySet, Sum

from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.models import Blob, File, OutputKind, Result, Task, TaskOutput

NAMES_IN_A_QUERY: Final = 500


def files_of(owner: Any) -> QuerySet[File]:
    """Return the user's files, bare uploads among them."""
    return File.objects.select_related("blob").filter(owner=owner)


def is_upload(name: str) -> bool:
    """Return whether a file of this name is a bare upload."""
    return name.startswith(DIGEST_PREFIX)


def contents_by_name(owner: Any, names: Collection[str]) -> dict[str, str]:
    """Return for each name that is a file of the user the digest of its content."""
    found: dict[str, str] = {}
    for some in in_batches(names):
        found |= dict(File.objects.filter(owner=owner, name__in=some).values_list("name", "blob_id"))
    return found


def nameable_contents(owner: Any, digests: Collection[str]) -> set[str]:
    """Return which of these contents the user may name: those of own files, and of what own tasks left.

    That a content is here is no reason: who knows a digest of somebody else's file must not get the file by it.
    """
    file = File.objects.filter(owner=owner, blob=OuterRef("pk"))
    output = TaskOutput.objects.filter(result__task__owner=owner, blob=OuterRef("pk"))
    found: set[str] = set()
    for some in in_batches(digests):
        blobs = Blob.objects.filter(Exists(file) | Exists(output), sha256__in=some)
        found.update(blobs.values_list("sha256", flat=True))
    return found


def nameable_content(owner: Any, digest: str) -> Blob | None:
    """Return the content if the user may name it."""
    return Blob.objects.get(sha256=digest) if nameable_contents(owner, [digest]) else None


def kept_bytes(owner: Any, *, without_name: str, with_content: str = "") -> int:
    """Return how many bytes the user's files come to, each content once, leaving out one name and one content."""
    others = File.objects.filter(owner=owner).exclude(name=without_name)
    blobs = Blob.objects.filter(sha256__in=others.values("blob_id")).exclude(sha256=with_content)
    return blobs.aggregate(total=Sum("size_bytes"))["total"] or 0


def outputs_of(task: Task, number: int, kind: OutputKind = OutputKind.FILE) -> QuerySet[TaskOutput]:
    """Return what an attempt of the task left."""
    return TaskOutput.objects.filter(result__task=task, result__attempt=number, kind=kind)


def has_attempt(task: Task, number: int) -> bool:
    """Return whether the task has an attempt of this number."""
    return Result.objects.filter(task=task, attempt=number).exists()


def in_batches(values: Collection[str]) -> Iterator[list[str]]:
    """Yield the values in lists that fit a query."""
    listed = list(values)
    for start in range(0, len(listed), NAMES_IN_A_QUERY):
        yield listed[start : start + NAMES_IN_A_QUERY]
