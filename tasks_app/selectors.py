"""Reads of tasks: who sees what, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count, QuerySet

from accounts_app.plain_sql import marks, read
from accounts_app.roles import is_operator
from octaskly_wire.vocabulary import Admission
from tasks_app import counts
from tasks_app.models import Task
from workers_app.models import Worker


def visible_to(user: Any) -> QuerySet[Task]:
    """Return the tasks this user may know of: operators all, others their own."""
    tasks = Task.objects.select_related("owner")
    return tasks if is_operator(user) else tasks.filter(owner=user)


def visible_among(user: Any, task_ids: Sequence[str]) -> set[str]:
    """Return those of the ids that are of tasks this user may know of."""
    among = f"SELECT id FROM tasks WHERE id IN ({marks(len(task_ids))})"  # noqa: S608 - marks
    rows = read(among, task_ids) if is_operator(user) else read(f"{among} AND owner_id = ?", [*task_ids, user.pk])
    return {task_id for (task_id,) in rows}


def live_attempts_by_worker() -> dict[str, int]:
    """Return how many attempts each worker has in hand."""
    rows = Task.objects.filter(assigned_at__isnull=False).values_list("worker_id").annotate(count=Count("id"))
    return {worker_id: count for worker_id, count in rows if worker_id}


def task_counts(user: Any) -> dict[str, int]:
    """Return how many of the visible tasks are in each status."""
    return counts.of_all() if is_operator(user) else counts.of_owner(user.pk)


def worker_counts(live: Mapping[str, int]) -> dict[str, int]:
    """Return how many workers there are, how many run something, and how many are ready and idle.

    `live` is what `live_attempts_by_worker` has returned.
    """
    approved = Worker.objects.filter(admission=Admission.APPROVED.value, is_connected=True)
    states = Counter("active" if live.get(worker_id) else "idle" for worker_id in approved.values_list("id", flat=True))
    return {"total": Worker.objects.count(), "active": states["active"], "idle": states["idle"]}
