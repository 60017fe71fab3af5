"""Which public status may follow which. The one table; the database refuses any other step by a trigger."""

from __future__ import annotations

from typing import Final

from tasks_app.models import TaskStatus

ALLOWED: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    # A short command's start and end may arrive as one fact, and a task may be given up before it starts.
    TaskStatus.QUEUED: frozenset({TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}),
    TaskStatus.RUNNING: frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.QUEUED}),
    # Somebody asks for it again.
    TaskStatus.COMPLETED: frozenset({TaskStatus.QUEUED}),
    TaskStatus.FAILED: frozenset({TaskStatus.QUEUED}),
    TaskStatus.CANCELLED: frozenset({TaskStatus.QUEUED}),
}

ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


def is_allowed(before: TaskStatus, after: TaskStatus) -> bool:
    """Return whether this step is defined."""
    return after in ALLOWED[before]


def trigger_sql() -> str:
    """Return SQLite's statement that makes the database refuse every undefined step."""
    # Spelled out, since it is asked at every step: for a list SQLite would build a table each time.
    steps = " OR ".join(
        f"OLD.status = '{before.value}' AND NEW.status = '{after.value}'"
        for before, allowed in ALLOWED.items()
        for after in sorted(allowed)
    )
    return (
        "CREATE TRIGGER tasks_status_step BEFORE UPDATE OF status ON tasks"
        f" WHEN OLD.status <> NEW.status AND NOT ({steps})"
        " BEGIN SELECT RAISE(ABORT, 'undefined step of a task''s status'); END"
    )
