"""Looks into the database that following takes, each short and on a thread of the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from channels.db import database_sync_to_async

from tasks_app.models import AttemptState, Result, Task, TaskStatus
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
