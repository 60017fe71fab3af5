"""How many tasks are in each status, without a walk over the tasks.

The database itself keeps the numbers, one row an owner: triggers change them with the tasks, in the same statement. So
they hold for every writer, are rolled back with it, and need no care after a crash.
"""

from __future__ import annotations

from typing import Final

from django.db.models import Sum

from accounts_app.plain_sql import read
from tasks_app.models import TaskCount, TaskStatus

STATUSES: Final = tuple(status.value for status in TaskStatus)


def of_all() -> dict[str, int]:
    """Return how many tasks are in each status."""
    sums = TaskCount.objects.aggregate(**{f"all_{status}": Sum(status) for status in STATUSES})
    return {status: sums[f"all_{status}"] or 0 for status in STATUSES}


def of_owner(owner_id: int) -> dict[str, int]:
    """Return how many of a user's tasks are in each status."""
    found = TaskCount.objects.filter(owner_id=owner_id).values(*STATUSES).first()
    return found or dict.fromkeys(STATUSES, 0)


def queued() -> int:
    """Return how many tasks are queued, those that a worker holds unstarted among them."""
    [(count,)] = read("SELECT sum(queued) FROM task_counts")
    return count or 0
