"""New tasks, made and stored without the ORM: a request may bring ten thousand, and each would cost ten times as much."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection

from accounts_app.many_rows import Insert
from accounts_app.plain_sql import db_time
from dispatcher.ports import ReadyTask
from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from tasks_app.ids import new_task_ids
from tasks_app.models import TaskStatus
from tasks_app.submission import LimitsSpec, TaskSpec

LIMITS: Final = LimitsSpec.__struct_fields__
_OWN: Final = ("id", "command", "name", "env", "inputs", "outputs")
_SHARED: Final = (
    "owner_id", "priority", "timeout_s", "max_retries", "sandbox", "network", "limits",
    *(f"asked_{name}" for name in LIMITS), "created_at", "available_at",
)  # fmt: skip
"""What the tasks of a request mostly have in common."""
_kind: Final = attrgetter("priority", "timeout_s", "max_retries", "sandbox", "network", "limits")
_AT_FIRST: Final = {
    "status": f"'{TaskStatus.QUEUED.value}'", "attempt": "0", "failures": "0", "losses": "0", "stdout": "''",
    "stderr": "''", "stdout_truncated": "0", "stderr_truncated": "0",
}  # fmt: skip
"""What the other columns that may not be null begin with, as SQL."""
_INSERT: Final = Insert("tasks", _OWN, _SHARED, _AT_FIRST)

MAX_TOLD: Final = 16
"""So many tasks that came together are told to the engine one by one."""


class NewTask(msgspec.Struct, kw_only=True, gc=False, rename={"timeout_s": "timeout"}):
    """A task as it is at first. Encoded, it is what REST shows of it, so that nothing else is made of ten thousand."""

    id: str
    name: str
    command: str
    status: str = TaskStatus.QUEUED.value
    worker_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    duration_ms: int | None = None
    attempt: int = 0
    failure_reason: str | None = None
    owner: str
    env: dict[str, str]
    priority: int
    timeout_s: int
    max_retries: int
    sandbox: str
    network: bool
    limits: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    available_at: datetime
    cancel_requested: bool = False
    warnings: Sequence[str] = ()


def new_tasks(owner: str, specs: Sequence[TaskSpec], now: datetime) -> list[NewTask]:
    """Return tasks of the user with this name, each with an id."""
    usual_sandbox = settings.OCTASKLY_DEFAULT_SANDBOX
    return [
        NewTask(
            id=task_id,
            name=spec.name,
            command=spec.command,
            created_at=now,
            owner=owner,
            env=spec.env,
            priority=spec.priority,
            timeout_s=spec.timeout,
            max_retries=spec.max_retries,
            sandbox=str(spec.sandbox or usual_sandbox),
            network=spec.network,
            limits=msgspec.to_builtins(spec.limits),
            inputs=spec.inputs,
            outputs=spec.outputs,
            available_at=now,
        )
        for task_id, spec in zip(new_task_ids(len(specs)), specs, strict=True)
    ]


def ready_tasks(tasks: Sequence[NewTask]) -> list[ReadyTask]:
    """Return a few tasks as the engine would read them from the table, so that it need not.

    None where there are many, of which it takes no more than the first, or where inputs have to be read.
    """
    if len(tasks) > MAX_TOLD or any(task.inputs for task in tasks):
        return []
    return [
        ReadyTask(
            task_id=task.id,
            command=task.command,
            priority=task.priority,
            timeout_s=task.timeout_s,
            sandbox=SandboxLevel(task.sandbox),
            network=task.network,
            env=task.env,
            limits=Limits(**task.limits),
            max_retries=task.max_retries,
            attempt=0,
            failures=0,
            losses=0,
            outputs=task.outputs,
        )
        for task in tasks
    ]


def store(owner: Any, tasks: Sequence[NewTask], now: datetime) -> None:
    """Write tasks of this user that were made now, in the caller's transaction."""
    now_text = db_time(now)
    cursor = connection.connection.cursor()
    with connection.wrap_database_errors:
        for _, alike in groupby(tasks, _kind):
            some = list(alike)
            first = some[0]
            shared = (
                owner.pk,
                first.priority,
                first.timeout_s,
                first.max_retries,
                first.sandbox,
                first.network,
                json.dumps(first.limits),
                *map(first.limits.get, LIMITS),
                now_text,
                now_text,
            )
            _INSERT.run(cursor, [_own_values(task) for task in some], shared)


def _own_values(task: NewTask) -> tuple[str, ...]:
    return (
        task.id,
        task.command,
        task.name,
        json.dumps(task.env) if task.env else "{}",
        json.dumps(task.inputs) if task.inputs else "[]",
        json.dumps(task.outputs) if task.outputs else "[]",
    )
