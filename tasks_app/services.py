"""What people do to tasks: each function is one transaction with its audit rows. REST and admin call these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction

from audit_app.trail import AuditEvent, record
from dispatcher.ports import ReadyTask
from tasks_app import counts, signals
from tasks_app.feed import feed
from tasks_app.models import Task, TaskStatus
from tasks_app.new_tasks import NewTask, new_tasks, ready_tasks, store
from tasks_app.submission import TaskSpec
from tasks_app.task_inputs import bind_inputs, first_expired
from tasks_app.transitions import ENDED


class QueueFull(Exception):
    """As many tasks wait as are allowed to."""


class NotPossible(Exception):
    """The task's state does not allow this."""


def submit(owner: Any, specs: Sequence[TaskSpec], now: datetime | None = None) -> list[NewTask]:
    """Store the tasks, all or none, and return them; raises QueueFull or MissingInput.

    Joins the caller's transaction, if any.
    """
    moment = now or datetime.now(UTC)
    name = owner.get_username()
    tasks = new_tasks(name, specs, moment)
    events = [AuditEvent("task_submitted", name, task_id=task.id) for task in tasks]
    with transaction.atomic():
        if counts.queued() + len(tasks) > settings.OCTASKLY_MAX_QUEUED_TASKS:
            raise QueueFull(f"{settings.OCTASKLY_MAX_QUEUED_TASKS} tasks are queued already")
        store(owner, tasks, moment)
        bind_inputs(owner, specs, [task.id for task in tasks], moment)
        record(*events, at=moment)
        _announce_waiting(tasks, ready_tasks(tasks))
    return tasks


@dataclass(frozen=True, slots=True)
class Stepped:
    """What came of a step for many tasks: those that took it, and for the others why not."""

    tasks: list[Task]
    not_possible: dict[str, str]


def cancel(task: Task, actor: Any) -> Task:
    """Cancel a waiting task at once, or have a live one killed; raises NotPossible for one that ended."""
    return _only(cancel_many([task], actor))


def cancel_many(tasks: Sequence[Task], actor: Any) -> Stepped:
    """Cancel those that have not ended; which have, is looked up again."""
    now = datetime.now(UTC)
    name = actor.get_username()
    not_possible: dict[str, str] = {}
    waiting: list[Task] = []
    live: list[Task] = []
    with transaction.atomic():
        current = _current(tasks)
        for task in current:
            if TaskStatus(task.status) in ENDED:
                not_possible[task.id] = f"the task is {task.status} already"
            elif task.assigned_at is None:
                task.status, task.completed_at = TaskStatus.CANCELLED, now
                task.failure_reason, task.cancel_requested_at = "cancelled", now
                waiting.append(task)
            elif task.cancel_requested_at is None:
                task.cancel_requested_at = now
                live.append(task)
        _update(
            waiting, status=TaskStatus.CANCELLED, completed_at=now, failure_reason="cancelled", cancel_requested_at=now
        )
        _update(live, cancel_requested_at=now)
        record(*(AuditEvent("task_cancelled", name, task_id=task.id) for task in waiting), at=now)
        record(
            *(AuditEvent("task_cancel_requested", name, task.worker_id or "", task.id) for task in live),
            at=now,
        )
        if waiting or live:
            ended_ids = [task.id for task in waiting]
            transaction.on_commit(partial(feed.tell, [*ended_ids, *(task.id for task in live)], ended_ids))
        if waiting:
            ended = partial(signals.waiting_ended.send, sender=Task, status="cancelled", count=len(waiting))
            transaction.on_commit(ended)
        for task in live:
            transaction.on_commit(partial(signals.cancel_requested.send, sender=Task, task_id=task.id))
    return Stepped([task for task in current if task.id not in not_possible], not_possible)


def retry(task: Task, actor: Any) -> Task:
    """Queue an ended task again, with fresh budgets.

    Raises NotPossible for one that has not ended, and for one whose inputs are not kept any more.
    """
    return _only(retry_many([task], actor))


def retry_many(tasks: Sequence[Task], actor: Any) -> Stepped:
    """Queue those again that have ended and whose inputs are kept, with fresh budgets."""
    now = datetime.now(UTC)
    name = actor.get_username()
    not_possible: dict[str, str] = {}
    queued: list[Task] = []
    events: list[AuditEvent] = []
    with transaction.atomic():
        for task in _current(tasks):
            if TaskStatus(task.status) not in ENDED:
                not_possible[task.id] = f"the task is {task.status}; only an ended one can be retried"
                continue
            if (missing := first_expired(task)) is not None:
                text = f"the content of its input {missing!r} has expired; submit the task anew"
                not_possible[task.id] = text
                continue
            events.append(AuditEvent("task_retried", name, task_id=task.id, details={"from": task.status}))
            _begin_anew(task, now)
            queued.append(task)
        record(*events, at=now)
        if queued:
            _announce_waiting(queued)
    return Stepped(queued, not_possible)


def _begin_anew(task: Task, now: datetime) -> None:
    task.status = TaskStatus.QUEUED
    task.failures = task.losses = 0
    task.available_at = now
    task.worker_id = task.assigned_at = task.started_at = task.completed_at = task.cancel_requested_at = None
    task.exit_code = task.duration_ms = task.failure_reason = None
    task.stdout = task.stderr = ""
    task.stdout_truncated = task.stderr_truncated = False
    task.save()


def _current(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks as they are now, in the same order, without those that are gone."""
    found = Task.objects.select_related("owner").in_bulk([task.id for task in tasks])
    return [found[task.id] for task in tasks if task.id in found]


def _update(tasks: Sequence[Task], **values: Any) -> None:
    if tasks:
        Task.objects.filter(id__in=[task.id for task in tasks]).update(**values)


def _only(stepped: Stepped) -> Task:
    for reason in stepped.not_possible.values():
        raise NotPossible(reason)
    if not stepped.tasks:
        raise Task.DoesNotExist
    return stepped.tasks[0]


def _announce_waiting(tasks: Sequence[Task | NewTask], ready: Sequence[ReadyTask] = ()) -> None:
    classes = {(str(task.sandbox), task.network) for task in tasks}
    transaction.on_commit(partial(signals.tasks_submitted.send, sender=Task, classes=classes, tasks=ready))
    transaction.on_commit(partial(feed.tell, (task.id for task in tasks)))
