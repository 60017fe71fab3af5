"""Repeated POSTs: the same key and body give the tasks of the first time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from django.db import transaction

from tasks_app.models import IdempotencyKey, Task
from tasks_app.new_tasks import NewTask

KEPT: Final = timedelta(hours=24)
Tasks = Sequence[Task | NewTask]


class KeyReused(Exception):
    """The key came before, with another body."""


def submit_once(owner: Any, key: str, body: bytes, submit: Callable[[], Tasks]) -> tuple[Tasks, bool]:
    """Return the tasks and whether they were there already.

    Key and tasks are written in one transaction, which holds the database's write lock from its start: of two
    requests at the same moment the second finds the first's row.
    """
    now = datetime.now(UTC)
    digest = sha256(body).hexdigest()
    with transaction.atomic():
        IdempotencyKey.objects.filter(created_at__lt=now - KEPT).delete()
        known = IdempotencyKey.objects.filter(owner=owner, key=key).first()
        if known is None:
            tasks = submit()
            IdempotencyKey.objects.create(
                owner=owner, key=key, body_sha256=digest, task_ids=[task.id for task in tasks], created_at=now,
            )  # fmt: skip
            return tasks, False
        if known.body_sha256 != digest:
            raise KeyReused
        found = {task.id: task for task in Task.objects.select_related("owner").filter(id__in=known.task_ids)}
        return [found[task_id] for task_id in known.task_ids if task_id in found], True
