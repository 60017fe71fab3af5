"""What a task asks for and how it ended, in plain words. Pure but for the model's types."""

from __future__ import annotations

import signal
from typing import Final

from octaskly_wire.vocabulary import FailureReason
from tasks_app.models import Result, Task, TaskStatus

KIND_OF_STATUS: Final = {
    "queued": "",
    "assigned": "busy",
    "running": "busy",
    "completed": "good",
    "failed": "bad",
    "lost": "bad",
    "cancelled": "warn",
    "rejected": "warn",
}
"""The colour class of a task's or an attempt's status, as in js/format.js."""

MARK_OF_STATUS: Final = {"queued": "○", "running": "▶", "completed": "✓", "failed": "✗", "cancelled": "■"}
"""What stands before the name in the title, so that the browser's tab tells."""

LIMITS: Final = {
    "memory_mb": "{} MB of memory",
    "cpu_seconds": "{} s of processor time",
    "processes": "{} processes",
    "open_files": "{} open files",
    "disk_mb": "{} MB of disk",
}
LIMIT_NOUNS: Final = {
    "memory_mb": "memory",
    "cpu_seconds": "processor time",
    "disk_mb": "disk",
    "disk_mb_per_file": "size of each file",
    "memory_mb_per_process": "memory of each process",
    "cpu_seconds_per_process": "processor time of each process",
    "output_kb": "output",
    "timeout_s": "time-out",
}
"""What an attempt says it was held to, and by whom."""
_MAX_LABEL: Final = 80


def label_of(task: Task) -> str:
    """Return what the task is called: its name, else the head of its command."""
    if task.name:
        return task.name
    first = task.command.strip().partition("\n")[0]
    return first if len(first) <= _MAX_LABEL else f"{first[:_MAX_LABEL]}…"


def limit_words(limits: dict[str, int]) -> list[str]:
    """Return each limit that was asked for."""
    return list(_asked(limits).values())


def _asked(limits: dict[str, int]) -> dict[str, str]:
    return {name: LIMITS[name].format(f"{number:,}") for name, number in limits.items() if name in LIMITS}


def status_words(task: Task) -> str:
    """Return the status, and what is about to change it."""
    if task.status in {TaskStatus.QUEUED, TaskStatus.RUNNING} and task.cancel_requested_at is not None:
        return f"{task.status}, being cancelled"
    return str(task.status)


def ending_words(task: Task, last: Result | None = None) -> str:
    """Return why the task failed, such as "exit code 3"; empty when it has not.

    `last` is its latest attempt, which knows the signal.
    """
    if task.status != TaskStatus.FAILED:
        return ""
    return reason_words(task, task.failure_reason, task.exit_code, last)


def reason_words(task: Task, reason: str | None, exit_code: int | None, last: Result | None) -> str:
    """Return a failure's reason in words, with the limit that the task had asked for."""
    asked = _asked(task.limits)
    match reason:
        case FailureReason.EXIT_CODE:
            return f"exit code {exit_code}"
        case FailureReason.TIMEOUT:
            return f"killed: ran longer than {task.timeout_s:,} s"
        case FailureReason.SIGNAL:
            return f"killed by {_signal_name(last.signal)}" if last and last.signal else "killed by a signal"
        case FailureReason.MEMORY_LIMIT:
            return f"killed: more than {asked.get('memory_mb', 'the memory that it may use')}"
        case FailureReason.DISK_LIMIT:
            return f"killed: more than {asked.get('disk_mb', 'the disk that it may use')}"
        case FailureReason.CPU_LIMIT:
            return f"killed: more than {asked.get('cpu_seconds', 'the processor time that it may use')}"
        case FailureReason.PROCESS_LIMIT:
            return f"killed: more than {asked.get('processes', 'the processes that it may start')}"
        case FailureReason.MISSING_OUTPUT:
            return "the command ended well, but left not every output that was declared"
        case FailureReason.STAGING:
            return "its files could not be brought to the worker or back"
        case FailureReason.SANDBOX_UNAVAILABLE:
            return "the worker could not make the sandbox; the command never ran"
        case FailureReason.WORKER_LOST:
            return "given up: each worker that had it was lost"
    return (reason or "failed").replace("_", " ")


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
