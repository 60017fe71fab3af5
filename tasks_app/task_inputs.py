"""Binds the inputs that tasks ask for to contents, when they are submitted, and looks whether they are still there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from django.db.models import Q

from tasks_app.asked_files import DIGEST_PREFIX, AskedInput, read_input, shown
from tasks_app.file_selectors import contents_by_name, in_batches, nameable_contents
from tasks_app.models import Blob, File, Task, TaskInput
from tasks_app.submission import TaskSpec

INSERT_ROWS: Final = 5000


class MissingInput(Exception):
    """A task names a file that is not there; `position` is the task's in the request."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


def bind_inputs(owner: Any, specs: Sequence[TaskSpec], task_ids: Sequence[str], now: datetime) -> None:
    """Store which content each input of the new tasks has; raises MissingInput. Needs the caller's transaction.

    From here on a task keeps its contents, whatever becomes of the names. Each name is looked up once, however many
    tasks ask for it.
    """
    asked = [(position, read_input(text)) for position, spec in enumerate(specs) for text in spec.inputs]
    if not asked:
        return
    names = {item.name for _, item in asked if item.sha256 is None}
    digests = {item.sha256 for _, item in asked if item.sha256 is not None}
    by_name = contents_by_name(owner, names)
    nameable = nameable_contents(owner, digests)
    rows = []
    for position, item in asked:
        content = by_name.get(item.name) if item.sha256 is None else item.sha256
        if content is None or (item.sha256 is not None and content not in nameable):
            raise MissingInput(position, _what_misses(item))
        rows.append(TaskInput(task_id=task_ids[position], name=item.name, blob_id=content))
    TaskInput.objects.bulk_create(rows, batch_size=INSERT_ROWS)
    _touch(owner, names, digests, {*by_name.values(), *nameable}, now)


def first_expired(task: Task) -> str | None:
    """Return the name of the task's first input whose content is gone, None when all are there."""
    return task.input_files.filter(blob=None).values_list("name", flat=True).first() if task.inputs else None


def _what_misses(item: AskedInput) -> str:
    if item.sha256 is None:
        return f"there is no file {shown(item.name)}; upload it with PUT /api/v1/files/{quote(item.name)}"
    digest = DIGEST_PREFIX + item.sha256
    text = f"{shown(item.name)}: none of your files and of your tasks' outputs has the content {digest}"
    return f"{text}; upload it with PUT /api/v1/files/{digest}"


def _touch(owner: Any, names: set[str], digests: set[str], contents: set[str], now: datetime) -> None:
    """Note that these are in use, so that nothing of them expires soon."""
    for some in in_batches(names):
        File.objects.filter(owner=owner, name__in=some).update(used_at=now)
    for some in in_batches(digests):
        File.objects.filter(Q(owner=owner) & Q(blob_id__in=some)).update(used_at=now)
    for some in in_batches(contents):
        Blob.objects.filter(sha256__in=some).update(used_at=now)
