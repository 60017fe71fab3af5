"""The port between the worker and whatever runs commands, and how an end becomes a report. Pure."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import FailureReason, OutputStream
from worker_node.sandbox.policy import HostFacts, SandboxPlan


class EndCause(StrEnum):
    """What ended a command, as its supervisor tells it."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    CPU_LIMIT = "cpu_limit"
    DISK_LIMIT = "disk_limit"


class CommandEnd(msgspec.Struct, frozen=True, gc=False):
    """How a command ended. Signal numbers and exit codes are those of its first process."""

    cause: EndCause
    exit_code: int | None
    signal: int | None
    duration_ms: int
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    detail: str = ""
    started_at: float | None = None
    """When it began, in seconds of `time.monotonic`, of a command that was over before `started` was told."""
    is_untouched: bool = False
    """The command provably did nothing to its working folder."""
    tmp_fd: int | None = None
    """The folder in memory that outlived its sandbox, where the plan asked for that; the watcher closes it."""


class Watcher(Protocol):
    """Hears of one command's life. After `ended` or `refused` nothing more comes."""

    def started(self, at: float) -> None:
        """Hear that the command runs; `at` is when it began, in seconds of `time.monotonic`.

        Not told of a command that is over within some milliseconds: its end says when it began.
        """

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        """Take output."""

    def ended(self, end: CommandEnd) -> None:
        """Hear that no process of the command is left."""

    def refused(self, detail: str) -> None:
        """Hear that a set-up step failed and the command never ran."""


class Host(Protocol):
    """Runs commands by plan."""

    facts: HostFacts

    def seen_by_command(self, folder: Path) -> str:
        """Return where a command below strict finds its workspace."""

    def launch(self, plan: SandboxPlan, watcher: Watcher) -> None:
        """Start a command; its life is told to the watcher, never by an exception."""

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """End a command's whole tree: with TERM and a grace, or at once."""

    async def close(self) -> None:
        """Kill all commands and end."""


SIGXCPU: Final = 24
SIGXFSZ: Final = 25
SHELL_SIGNAL_BASE: Final = 128
"""A shell whose command died by signal n exits with 128 + n."""

_BY_CAUSE: Final = {
    EndCause.TIMED_OUT: FailureReason.TIMEOUT,
    EndCause.CANCELLED: FailureReason.CANCELLED,
    EndCause.LOST: FailureReason.WORKER_LOST,
    EndCause.MEMORY_LIMIT: FailureReason.MEMORY_LIMIT,
    EndCause.PROCESS_LIMIT: FailureReason.PROCESS_LIMIT,
    EndCause.CPU_LIMIT: FailureReason.CPU_LIMIT,
    EndCause.DISK_LIMIT: FailureReason.DISK_LIMIT,
}


def report_of(
    plan: SandboxPlan, end: CommandEnd, *, filled_a_file: bool, spawn_seconds: float | None = None
) -> OutcomeReport:
    """Turn an end into the report of the attempt.

    `spawn_seconds` is how long the command took to begin, None when it never did. `filled_a_file` says that the
    workspace holds a file of the allowed size: the proof that an exit code of 128 + SIGXFSZ, which any command may
    choose, stands for the limit.
    """
    reason = _BY_CAUSE.get(end.cause) or _reason_of_exit(plan, end, filled_a_file=filled_a_file)
    ended_by_itself = end.cause is EndCause.EXITED
    terms = plan.terms
    return OutcomeReport(
        failure_reason=reason,
        exit_code=end.exit_code if ended_by_itself else None,
        signal=end.signal,
        duration_ms=end.duration_ms,
        sandbox=terms.level,
        backend=terms.backend,
        cpu_seconds=end.cpu_seconds,
        max_rss_bytes=end.max_rss_bytes,
        spawn_seconds=spawn_seconds,
        limits=terms.enforcement,
        detail=end.detail[:4096],
    )


def _reason_of_exit(plan: SandboxPlan, end: CommandEnd, *, filled_a_file: bool) -> FailureReason | None:
    if end.signal is None and end.exit_code == 0:
        return None
    of_shell = (end.exit_code or 0) - SHELL_SIGNAL_BASE
    used_cpu_up = end.cpu_seconds >= plan.terms.rlimits.get("cpu_seconds", float("inf"))
    if end.signal == SIGXCPU or (of_shell == SIGXCPU and used_cpu_up):
        return FailureReason.CPU_LIMIT
    if end.signal == SIGXFSZ or (of_shell == SIGXFSZ and filled_a_file):
        return FailureReason.DISK_LIMIT
    return FailureReason.SIGNAL if end.signal is not None else FailureReason.EXIT_CODE
