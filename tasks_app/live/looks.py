"""Looks into the database that following takes, each short and on a thread of the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django.db import DatabaseError, connection

from accounts_app.plain_sql import read
from tasks_app.models import AttemptState, TaskStatus
from tasks_app.transitions import ENDED

T = TypeVar("T")

_TASK_WITH_ATTEMPT: Final = (
    "SELECT tasks.status, tasks.attempt, tasks.exit_code, tasks.failure_reason, results.attempt, results.attempt_id,"
    " results.worker_id, results.state, results.outcome, results.exit_code, results.failure_reason FROM tasks"
    " LEFT JOIN results ON results.task_id = tasks.id AND results.attempt = COALESCE(NULLIF(?, 0), tasks.attempt)"
    " WHERE tasks.id = ?"
)


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
    return await asyncio.get_running_loop().run_in_executor(None, _look, function, *arguments)


def _look(function: Callable[..., T], *arguments: Any) -> T:
    try:
        return function(*arguments)
    except DatabaseError:
        connection.close()  # It may be broken beyond this look: the next one opens a new one.
        raise


def look_at_task(task_id: str, number: int) -> TaskLook | None:
    """Return the task with this attempt, or its newest when the number is 0; None when the task is gone."""
    rows = read(_TASK_WITH_ATTEMPT, (number, task_id))
    if not rows:
        return None
    status, latest, exit_code, failure_reason, *attempt = rows[0]
    ending = Ending(status, exit_code, failure_reason) if TaskStatus(status) in ENDED else None
    return TaskLook(status, latest, ending, _attempt_of(*attempt) if attempt[0] is not None else None)


def _attempt_of(
    number: int,
    attempt_id: str,
    worker_id: str,
    state: str,
    outcome: str | None,
    exit_code: int | None,
    failure_reason: str | None,
) -> AttemptLook:
    ending = Ending(outcome or "", exit_code, failure_reason) if state == AttemptState.ENDED else None
    return AttemptLook(number, attempt_id, worker_id, ending)
