"""Decide how one attempt is run: the level's promises and the task's limits become a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from octaskly_wire.limits import CANCEL_GRACE_S
from octaskly_wire.messages import AssignAttempt, Limits
from octaskly_wire.vocabulary import Enforcement, SandboxLevel
from worker_node.sandbox.environment import task_environment

DEFAULT_MEMORY_MB: Final = 1024
DEFAULT_PROCESSES: Final = 256
DEFAULT_OPEN_FILES: Final = 1024
DEFAULT_DISK_MB: Final = 1024
OOM_SCORE_ADJ: Final = 500
SHELL: Final = "/bin/sh"


class Backend(StrEnum):
    """What carries a plan out; the value stands in outcomes."""

    SPAWNER = "linux-spawner"
    POSIX = "posix-group"
    WINDOWS = "windows-tree"


@dataclass(frozen=True)
class SandboxPlan:
    """Everything needed to start one command. No step of it is optional."""

    attempt_id: str
    level: SandboxLevel
    backend: str
    command: str
    workspace: str
    env: Mapping[str, str]
    timeout_s: int
    rlimits: Mapping[str, int]
    polled: Mapping[str, int]
    enforcement: Mapping[str, Enforcement]
    no_new_privileges: bool

    def for_spawner(self) -> dict[str, Any]:
        """Return the plan as the spawner reads it."""
        return {
            "argv": [SHELL, "-c", self.command],
            "env": dict(self.env),
            "workspace": self.workspace,
            "timeout_s": self.timeout_s,
            "grace_s": CANCEL_GRACE_S,
            "rlimits": dict(self.rlimits),
            "polled": dict(self.polled),
            "no_new_privileges": self.no_new_privileges,
            "oom_score_adj": OOM_SCORE_ADJ,
        }


def plan_attempt(assignment: AssignAttempt, backend: str, workspace: str, worker_env: Mapping[str, str]) -> SandboxPlan:
    """Turn an assignment into a plan. Only the spawner keeps limits, so only its plans say that they are kept."""
    rlimits, polled, enforcement = _limits(assignment.limits)
    if backend != Backend.SPAWNER:
        rlimits, polled, enforcement = {}, {}, {}
    return SandboxPlan(
        attempt_id=assignment.attempt_id,
        level=assignment.sandbox,
        backend=backend,
        command=assignment.command,
        workspace=workspace,
        env=task_environment(assignment, workspace, worker_env),
        timeout_s=assignment.timeout_s,
        rlimits=rlimits,
        polled=polled,
        enforcement=enforcement,
        no_new_privileges=assignment.sandbox is not SandboxLevel.NONE,
    )


def _limits(asked: Limits) -> tuple[dict[str, int], dict[str, int], dict[str, Enforcement]]:
    """Return kernel limits (each binds one process), polled limits (the whole tree), and who holds what.

    RLIMIT_AS is never used: it breaks runtimes that reserve address space. RLIMIT_NPROC is not used either:
    outside a user namespace it counts every process of the user, so one task would starve its neighbours.
    """
    memory_bytes = (asked.memory_mb or DEFAULT_MEMORY_MB) << 20
    disk_bytes = (asked.disk_mb or DEFAULT_DISK_MB) << 20
    rlimits = {
        "core": 0,
        "open_files": asked.open_files or DEFAULT_OPEN_FILES,
        "file_bytes": disk_bytes,
        "data_bytes": memory_bytes,
    }
    polled = {
        "memory_bytes": memory_bytes,
        "disk_bytes": disk_bytes,
        "processes": asked.processes or DEFAULT_PROCESSES,
    }
    enforcement = {
        "memory_mb": Enforcement.POLLED,
        "memory_mb_per_process": Enforcement.KERNEL,
        "disk_mb": Enforcement.POLLED,
        "disk_mb_per_file": Enforcement.KERNEL,
        "processes": Enforcement.POLLED,
        "open_files": Enforcement.KERNEL,
    }
    if asked.cpu_seconds:
        rlimits["cpu_seconds"] = asked.cpu_seconds
        polled["cpu_seconds"] = asked.cpu_seconds
        enforcement["cpu_seconds"] = Enforcement.POLLED
        enforcement["cpu_seconds_per_process"] = Enforcement.KERNEL
    return rlimits, polled, enforcement
