"""What the page of one task shows: the task, its attempts, its files, and why it waits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from dashboard_app.task_words import (
    KIND_OF_STATUS,
    LIMIT_NOUNS,
    MARK_OF_STATUS,
    ending_words,
    label_of,
    limit_words,
    reason_words,
    status_words,
)
from octaskly_wire.vocabulary import Enforcement
from tasks_app.file_selectors import nameable_contents
from tasks_app.models import OutputKind, Result, Task, TaskOutput, TaskStatus
from tasks_app.transitions import ENDED
from tasks_app.why import why
from workers_app.selectors import names_of_workers

MAX_ATTEMPTS: Final = 100
MAX_FILES: Final = 500
MAX_NAMES: Final = 8
_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt as the table shows it."""

    number: int
    status: str
    kind: str
    reason: str
    detail: str
    worker_id: str
    worker_name: str
    assigned_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    start_ms: int | None
    """From the moment it was given to the worker until the command ran."""
    spawn_ms: float | None
    """What of it the sandbox took."""
    duration_ms: int | None
    cpu_seconds: float | None
    max_rss_bytes: int | None
    sandbox: str
    kept_by_kernel: str
    kept_by_polling: str
    stdout_bytes: int
    stderr_bytes: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """One input or output as the table shows it; without a link its content cannot be had."""

    name: str
    size_bytes: int | None
    sha256: str
    href: str
    why_not: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Workers that do not run the task for the same reason."""

    reason: str
    is_lasting: bool
    workers: list[dict[str, Any]]
    more: int


def facts_of(task: Task, user: Any) -> dict[str, Any]:
    """Return the context of the task's page for this user."""
    attempts = list(task.results.defer("stdout", "stderr").order_by("-attempt")[:MAX_ATTEMPTS])
    last = next((attempt for attempt in attempts if attempt.attempt == task.attempt), None)
    names = names_of_workers([task.worker_id, *(attempt.worker_id for attempt in attempts)])
    status = TaskStatus(task.status)
    ending = ending_words(task, last)
    return {
        "task": task,
        "label": label_of(task),
        "mark": MARK_OF_STATUS[status.value],
        "status_words": status_words(task),
        "kind": KIND_OF_STATUS[status.value],
        "is_ended": status in ENDED,
        "may_cancel": status not in ENDED and task.cancel_requested_at is None,
        "ending": ending,
        "ending_detail": last.detail if last and ending else "",
        "worker_name": names.get(task.worker_id or "", task.worker_id),
        "limits": limit_words(task.limits),
        "sandbox_backend": last.sandbox_backend if last else "",
        "attempts": [_attempt_row(task, attempt, names) for attempt in attempts],
        "inputs": _inputs(task, user),
        "outputs": _outputs(task),
        **_waiting(task, status, user),
    }


def _attempt_row(task: Task, attempt: Result, names: dict[str, str]) -> AttemptRow:
    status = attempt.outcome or attempt.state
    start = attempt.started_at - attempt.assigned_at if attempt.started_at else None
    keepers: dict[str, list[str]] = defaultdict(list)
    for name, keeper in attempt.limits.items():
        keepers[keeper].append(LIMIT_NOUNS.get(name, name.replace("_", " ")))
    failed = attempt.failure_reason and attempt.outcome == "failed"
    return AttemptRow(
        number=attempt.attempt,
        status="superseded" if attempt.is_superseded else status,
        kind=KIND_OF_STATUS.get(status, ""),
        reason=reason_words(task, attempt.failure_reason, attempt.exit_code, attempt)
        if failed
        else _other_reason(attempt),
        detail=attempt.detail,
        worker_id=attempt.worker_id,
        worker_name=names.get(attempt.worker_id, attempt.worker_id),
        assigned_at=attempt.assigned_at,
        started_at=attempt.started_at,
        completed_at=attempt.completed_at,
        start_ms=max(0, round(start.total_seconds() * _MS)) if start else None,
        spawn_ms=None if attempt.spawn_seconds is None else attempt.spawn_seconds * _MS,
        duration_ms=attempt.duration_ms,
        cpu_seconds=attempt.cpu_seconds,
        max_rss_bytes=attempt.max_rss_bytes,
        sandbox=" ".join(filter(None, [attempt.sandbox_level, attempt.sandbox_backend])),
        kept_by_kernel=", ".join(keepers[Enforcement.KERNEL.value]),
        kept_by_polling=", ".join(keepers[Enforcement.POLLED.value]),
        stdout_bytes=attempt.stdout_bytes,
        stderr_bytes=attempt.stderr_bytes,
    )


def _other_reason(attempt: Result) -> str:
    if attempt.outcome == "completed":
        return f"exit code {attempt.exit_code}"
    return (attempt.failure_reason or "").replace("_", " ") if attempt.outcome in {"rejected", "lost"} else ""


def _inputs(task: Task, user: Any) -> list[FileRow]:
    if not task.inputs:
        return []
    rows = list(task.input_files.select_related("blob")[:MAX_FILES])
    # Contents are named by their owner alone: whoever else may see the task gets to know that they exist.
    is_own = task.owner_id == user.pk
    readable = nameable_contents(user, {row.blob_id for row in rows if row.blob_id}) if is_own else set()
    return [
        FileRow(
            name=row.name,
            size_bytes=row.blob.size_bytes if row.blob else None,
            sha256=row.blob_id or "",
            href=f"/api/v1/files/sha256:{row.blob_id}" if row.blob_id in readable else "",
            why_not="" if row.blob_id else "not kept any more",
        )
        for row in rows
    ]


def _outputs(task: Task) -> list[FileRow]:
    if not task.attempt:
        return []
    kept = TaskOutput.objects.filter(result__task=task, kind=OutputKind.FILE).select_related("result")
    rows = kept.only("name", "size_bytes", "sha256", "blob", "result__attempt").order_by("-result__attempt", "name")
    return [
        FileRow(
            name=row.name,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            href=f"/api/v1/tasks/{task.id}/outputs/{quote(row.name)}?attempt={row.result.attempt}"
            if row.blob_id
            else "",
            why_not="" if row.blob_id else "not kept any more",
            attempt=row.result.attempt,
        )
        for row in rows[:MAX_FILES]
    ]


def _waiting(task: Task, status: TaskStatus, viewer: Any) -> dict[str, Any]:
    if status is not TaskStatus.QUEUED:
        return {"why": None, "waiting": []}
    told = why(task, viewer)
    groups: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for worker in told["workers"]:
        groups[worker["reason"], worker["is_lasting"]].append(worker)
    return {
        "why": told["message"],
        "waiting": [
            WaitingGroup(reason, is_lasting, workers[:MAX_NAMES], max(0, len(workers) - MAX_NAMES))
            for (reason, is_lasting), workers in sorted(groups.items(), key=lambda group: (group[0][1], -len(group[1])))
        ],
    }
