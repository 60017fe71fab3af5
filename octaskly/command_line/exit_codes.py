"""How a task's end becomes an exit code, as a shell would show it. Pure."""

from __future__ import annotations

from typing import Final

from octaskly.answers import Attempt, Task

FAILED: Final = 1
TIMED_OUT: Final = 124
BY_SIGNAL: Final = 128
INTERRUPTED: Final = 130

_SENTENCES: Final = {
    "memory_limit": "The command was killed: it used more memory than it may. Give it more: --memory MB",
    "disk_limit": "The command was killed: it wrote more than it may. Give it more: --disk MB",
    "cpu_limit": "The command was killed: it used more processor time than it may. Give it more: --cpu-seconds S",
    "process_limit": "The command was killed: it started more processes than it may. Give it more: --processes N",
    "missing_output": "The command ended well, but not every output was there",
    "staging": "The task's files could not be brought to the worker or back",
    "sandbox_unavailable": "The worker could not make the sandbox; the command never ran",
    "worker_lost": "The task was given up: each worker that had it was lost",
}


def needs_attempt(task: Task) -> bool:
    """Return whether the task alone does not tell enough."""
    return task.status == "failed" and task.failure_reason != "exit_code"


def exit_code(task: Task, attempt: Attempt | None) -> tuple[int, str]:
    """Return the code and what to say beside it; empty where the code says all."""
    if task.ok:
        return 0, ""
    if task.status == "cancelled" or task.failure_reason == "cancelled":
        return FAILED, "The task was cancelled"
    detail = attempt.detail if attempt else ""
    reason = task.failure_reason or ""
    if reason == "exit_code":
        return (task.exit_code or FAILED) & 0xFF or FAILED, ""
    if reason == "timeout":
        return TIMED_OUT, f"The command was ended after {task.timeout} s, its timeout. Give it more: --timeout"
    if reason == "signal":
        return signal_code(attempt), ""
    sentence = _SENTENCES.get(reason, f"The task failed: {reason}")
    return FAILED, f"{sentence} ({detail})" if detail else sentence


def signal_code(attempt: Attempt | None) -> int:
    """Return 128 and the signal's number."""
    number = attempt.signal if attempt and attempt.signal else 0
    return BY_SIGNAL + number if number else FAILED
