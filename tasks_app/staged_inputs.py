"""The inputs of tasks as the engine hands them out, and the end of tasks whose inputs are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction

from audit_app.trail import AuditEvent, record
from octaskly_wire.messages import InputFile
from octaskly_wire.vocabulary import FailureReason
from tasks_app import signals
from tasks_app.models import Task, TaskInput, TaskStatus

TASKS_IN_A_QUERY: Final = 500


def read_inputs(task_ids: Sequence[str]) -> tuple[dict[str, tuple[InputFile, ...]], dict[str, str]]:
    """Return the inputs of these tasks, and of tasks whose content is gone the name of the first such input."""
    inputs: dict[str, tuple[InputFile, ...]] = {}
    expired: dict[str, str] = {}
    for start in range(0, len(task_ids), TASKS_IN_A_QUERY):
        rows = TaskInput.objects.filter(task_id__in=task_ids[start : start + TASKS_IN_A_QUERY]).order_by(
            "task_id", "id"
        )
        for task_id, name, sha256, size_bytes in rows.values_list("task_id", "name", "blob_id", "blob__size_bytes"):
            if sha256 is None:
                expired.setdefault(task_id, name)
            else:
                inputs[task_id] = (*inputs.get(task_id, ()), InputFile(name, sha256, size_bytes))
    return inputs, expired


def fail_expired(expired: Mapping[str, str], now: datetime) -> None:
    """End queued tasks that no worker can be given any more, since the content of an input is gone.

    Contents that a waiting task needs do not expire, and a retry is refused when they have: this is for whoever
    changes the tables by hand.
    """
    reason = FailureReason.STAGING.value
    with transaction.atomic():
        for task_id, name in expired.items():
            waiting = Task.objects.filter(id=task_id, status=TaskStatus.QUEUED, assigned_at=None)
            if waiting.update(status=TaskStatus.FAILED, failure_reason=reason, completed_at=now):
                details = {"failure_reason": reason, "detail": f"the content of the input {name!r} is gone"}
                record(AuditEvent("task_finished", "engine", task_id=task_id, details=details), at=now)
                transaction.on_commit(partial(signals.waiting_ended.send, sender=Task, status="failed", count=1))
