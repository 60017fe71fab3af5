"""The statements for what each attempt takes: its claim, its start and its end, in its own row and in its task's.

Each is a compare-and-set. Claims and ends change many rows at once, for triggers on tasks make each statement dear.
The marks for values are SQLite's; the statements themselves are PostgreSQL's, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from accounts_app.many_rows import Insert, Update

# As text: the driver would make a moment of it in ten times the time that the statement takes.
_WAITED_SINCE: Final = "CAST(available_at AS TEXT)"

CLAIM: Final = Update(
    "tasks",
    "assigned_at = {now}, attempt = {number}, worker_id = {worker_id}",
    "id = {id} AND attempt = {number} - 1 AND status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL",
    "id",
    own=("id", "number", "worker_id"),
    shared=("now",),
)
BEGIN_RESULT: Final = Insert(
    "results",
    own=("attempt_id", "task_id", "attempt", "worker_id"),
    shared=("assigned_at", "stdout", "stderr"),
    constant={
        "state": "'assigned'", "detail": "''", "is_superseded": "FALSE", "sandbox_level": "''", "sandbox_backend": "''",
        "limits": "'{}'", "stdout_bytes": "0", "stderr_bytes": "0", "stdout_truncated": "FALSE",
        "stderr_truncated": "FALSE", "outcome_sha256": "''",
    },
)  # fmt: skip
START_RESULT: Final = "UPDATE results SET state = 'running', started_at = ? WHERE attempt_id = ? AND state = 'assigned'"
START_TASK: Final = (
    "UPDATE tasks SET status = 'running', started_at = ?"  # noqa: S608 - constants
    " WHERE id = ? AND attempt = ? AND assigned_at IS NOT NULL AND status = 'queued'"
    f" RETURNING {_WAITED_SINCE}"
)
_OF_AN_END: Final = (
    "outcome", "failure_reason", "detail", "exit_code", "signal", "sandbox_level", "sandbox_backend", "limits",
)  # fmt: skip
"""What the ends of many attempts have in common, and are written together by."""
_OF_EACH_END: Final = ("duration_ms", "cpu_seconds", "max_rss_bytes", "spawn_seconds", "outcome_sha256")
_RESULT_STREAMS: Final = ("stdout_bytes", "stderr_bytes", "stdout_truncated", "stderr_truncated", "stdout", "stderr")
_TASK_STREAMS: Final = ("stdout", "stderr", "stdout_truncated", "stderr_truncated")


# What a statement binds costs more than what it changes: the columns of output are left out where there is none.
@cache
def end_result(*, has_streams: bool, is_unstarted: bool) -> Update:
    """Return what ends attempts: those that are live, or only those that were not told to run."""
    each = (*_OF_EACH_END, *_RESULT_STREAMS) if has_streams else _OF_EACH_END
    state = "= 'assigned'" if is_unstarted else "<> 'ended'"
    return Update(
        "results",
        "state = 'ended', started_at = COALESCE(started_at, {now}), completed_at = {now}, "
        + _taken((*_OF_AN_END, *each)),
        f"attempt_id = {{attempt_id}} AND state {state}",
        "task_id",
        own=("attempt_id", *each),
        shared=("now", *_OF_AN_END),
    )


@cache
def end_task(*, has_streams: bool) -> Update:
    """Return what ends the tasks of live attempts, and gives back how, and what is measured."""
    each = ("duration_ms", *_TASK_STREAMS) if has_streams else ("duration_ms",)
    # A command that was to be cancelled and failed first was cancelled all the same.
    is_cancelled = "{outcome} = 'failed' AND cancel_requested_at IS NOT NULL"
    return Update(
        "tasks",
        f"status = CASE WHEN {is_cancelled} THEN 'cancelled' ELSE {{outcome}} END,"
        f" failure_reason = CASE WHEN {is_cancelled} THEN 'cancelled' ELSE {{failure_reason}} END,"
        " assigned_at = NULL, completed_at = {now}, started_at = COALESCE(started_at, {now}),"
        " failures = failures + {failures}, " + _taken(("exit_code", *each)),
        "id = {id} AND attempt = {number} AND assigned_at IS NOT NULL",
        f"id, status, {_WAITED_SINCE}",
        own=("id", "number", *each),
        shared=("now", "outcome", "failure_reason", "exit_code", "failures"),
    )


def _taken(columns: Sequence[str]) -> str:
    return ", ".join(f"{column} = {{{column}}}" for column in columns)
