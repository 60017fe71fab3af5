"""The numbers of tasks by status, which triggers of the database keep: they hold for every way of writing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count

from tasks_app import counts
from tasks_app.ids import new_task_ids
from tasks_app.models import Task

pytestmark = pytest.mark.django_db


@pytest.fixture
def owners(django_user_model) -> list[Any]:
    """Return two users."""
    return [django_user_model.objects.create_user(name) for name in ("alice", "bob")]


def add(owner: Any, status: str = "queued", count: int = 1) -> list[Task]:
    """Put tasks into the database in one statement."""
    now = datetime.now(UTC)
    fields = {"command": "true", "sandbox": "basic", "created_at": now, "available_at": now, "owner": owner}
    return Task.objects.bulk_create(Task(id=key, status=status, **fields) for key in new_task_ids(count))


def counted(owner: Any = None) -> dict[str, int]:
    """Return what a walk over all tasks counts."""
    tasks = Task.objects.all() if owner is None else Task.objects.filter(owner=owner)
    rows = tasks.order_by().values_list("status").annotate(count=Count("id"))
    return dict.fromkeys(counts.STATUSES, 0) | dict(rows)


def test_nothing_is_counted_before_the_first_task(owners):
    """All numbers are there, and are 0."""
    assert counts.of_all() == counts.of_owner(owners[0].pk) == dict.fromkeys(counts.STATUSES, 0)
    assert counts.queued() == 0


def test_every_way_of_writing_is_counted(owners):
    """Many rows at once, one step for many, plain SQL, a step that changes nothing, and removing."""
    alice, bob = owners
    tasks = [*add(alice, count=5), *add(bob, count=3), *add(bob, "failed")]
    assert counts.of_all() == counted()
    Task.objects.filter(id__in=[task.id for task in tasks[:4]]).update(status="running")
    with connection.cursor() as cursor:
        steps = [("completed", tasks[0].id), ("queued", tasks[1].id), ("running", tasks[2].id)]
        cursor.executemany("UPDATE tasks SET status = %s WHERE id = %s", steps)
    tasks[5].delete()
    for owner in owners:
        assert counts.of_owner(owner.pk) == counted(owner)
    assert counts.of_all() == counted()
    assert counts.queued() == counted()["queued"] == 4


def test_what_is_rolled_back_is_not_counted(owners):
    """The numbers belong to the transaction that changed the tasks."""
    add(owners[0])
    with transaction.atomic():
        add(owners[0], count=7)
        assert counts.queued() == 8
        transaction.set_rollback(True)
    assert counts.queued() == 1


def test_an_owner_without_tasks_can_be_removed(owners):
    """The row of numbers goes with its owner."""
    [task] = add(owners[0])
    task.delete()
    owners[0].delete()
    assert counts.of_all() == counted()
