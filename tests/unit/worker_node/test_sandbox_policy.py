"""Plans, environments and reports, decided without a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from octaskly_wire.messages import AssignAttempt, Limits
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from worker_node.sandbox.environment import task_environment
from worker_node.sandbox.host import CommandEnd, EndCause, report_of
from worker_node.sandbox.policy import Backend, plan_attempt

WORKER_ENV = {
    "PATH": "/usr/bin",
    "LANG": "de_AT.UTF-8",
    "LC_TIME": "C",
    "TZ": "UTC",
    "HOME": "/home/owner",
    "AWS_SECRET": "s",
    "OCTASKLY_JOIN_TOKEN": "t",
    "octaskly_sneaky": "t",
}


def assignment(level: SandboxLevel = SandboxLevel.BASIC, **changes) -> AssignAttempt:
    """Return the third attempt of a task."""
    return AssignAttempt("task.3", "task", "true", 10, level, allows_network=False, **changes)


def test_basic_denies_by_default():
    """Only the listed names pass, and home is the workspace."""
    assert task_environment(assignment(), "/w", WORKER_ENV) == {
        "PATH": "/usr/bin",
        "LANG": "de_AT.UTF-8",
        "LC_TIME": "C",
        "TZ": "UTC",
        "TERM": "dumb",
        "HOME": "/w",
        "TMPDIR": "/w",
        "OCTASKLY_TASK_ID": "task",
        "OCTASKLY_ATTEMPT": "3",
    }


def test_none_passes_all_but_ours():
    """The worker's environment is the task's, without OCTASKLY_* in any spelling."""
    env = task_environment(assignment(SandboxLevel.NONE), "/w", WORKER_ENV)
    assert env["AWS_SECRET"] == "s"
    assert env["HOME"] == "/home/owner"
    assert {name for name in env if name.upper().startswith("OCTASKLY_")} == {"OCTASKLY_TASK_ID", "OCTASKLY_ATTEMPT"}


@pytest.mark.parametrize("level", [SandboxLevel.NONE, SandboxLevel.BASIC])
def test_the_tasks_own_variables_win_but_cannot_pose_as_ours(level):
    """A task may set PATH and HOME, never OCTASKLY_*."""
    wishes = {"PATH": "/opt", "HOME": "/h", "OCTASKLY_TASK_ID": "forged", "OCTASKLY_URL": "x"}
    env = task_environment(assignment(level, env=wishes), "/w", WORKER_ENV)
    assert (env["PATH"], env["HOME"], env["OCTASKLY_TASK_ID"]) == ("/opt", "/h", "task")
    assert "OCTASKLY_URL" not in env


def test_a_worker_without_path_still_gives_one():
    """A service manager may start the worker with an empty environment."""
    assert "/bin" in task_environment(assignment(), "/w", {})["PATH"]


def test_defaults_are_a_gibibyte_each_and_no_processor_limit():
    """What the task does not ask for is limited all the same."""
    plan = plan_attempt(assignment(), Backend.SPAWNER, "/w", {})
    assert plan.rlimits == {"core": 0, "open_files": 1024, "file_bytes": 1 << 30, "data_bytes": 1 << 30}
    assert plan.polled == {"memory_bytes": 1 << 30, "disk_bytes": 1 << 30, "processes": 256}
    assert "cpu_seconds" not in plan.enforcement


def test_the_report_says_who_holds_which_limit():
    """The kernel binds single processes; the tree is polled, and that is said."""
    limits = Limits(memory_mb=64, cpu_seconds=3, processes=5, open_files=20, disk_mb=7)
    plan = plan_attempt(assignment(limits=limits), Backend.SPAWNER, "/w", {})
    assert plan.rlimits["cpu_seconds"] == 3
    assert plan.polled["memory_bytes"] == 64 << 20
    assert plan.enforcement["memory_mb"] is Enforcement.POLLED
    assert plan.enforcement["memory_mb_per_process"] is Enforcement.KERNEL
    assert plan.enforcement["open_files"] is Enforcement.KERNEL
    assert set(plan.enforcement) >= {"memory_mb", "cpu_seconds", "processes", "open_files", "disk_mb"}


def test_a_backend_that_keeps_no_limits_claims_none():
    """On macOS and Windows the report's table is empty."""
    plan = plan_attempt(assignment(limits=Limits(memory_mb=64)), Backend.POSIX, "/w", {})
    assert (plan.rlimits, plan.polled, plan.enforcement) == ({}, {}, {})


def test_new_privileges_are_possible_at_none_only():
    """From basic upwards setuid programs are powerless."""
    assert not plan_attempt(assignment(SandboxLevel.NONE), Backend.SPAWNER, "/w", {}).no_new_privileges
    assert plan_attempt(assignment(), Backend.SPAWNER, "/w", {}).no_new_privileges


EXITED = CommandEnd(EndCause.EXITED, 0, None, 5)


@pytest.mark.parametrize(
    ("end", "filled", "reason", "exit_code"),
    [
        (EXITED, False, None, 0),
        (replace(EXITED, exit_code=3), False, FailureReason.EXIT_CODE, 3),
        (replace(EXITED, exit_code=None, signal=11), False, FailureReason.SIGNAL, None),
        (replace(EXITED, exit_code=None, signal=24), False, FailureReason.CPU_LIMIT, None),
        (replace(EXITED, exit_code=None, signal=25), False, FailureReason.DISK_LIMIT, None),
        (replace(EXITED, exit_code=152, cpu_seconds=3.0), False, FailureReason.CPU_LIMIT, 152),
        (replace(EXITED, exit_code=152, cpu_seconds=0.1), False, FailureReason.EXIT_CODE, 152),
        (replace(EXITED, exit_code=153), True, FailureReason.DISK_LIMIT, 153),
        (replace(EXITED, exit_code=153), False, FailureReason.EXIT_CODE, 153),
        (replace(EXITED, cause=EndCause.TIMED_OUT), False, FailureReason.TIMEOUT, None),
        (replace(EXITED, cause=EndCause.CANCELLED, signal=15), False, FailureReason.CANCELLED, None),
        (replace(EXITED, cause=EndCause.LOST), False, FailureReason.WORKER_LOST, None),
        (replace(EXITED, cause=EndCause.MEMORY_LIMIT), False, FailureReason.MEMORY_LIMIT, None),
        (replace(EXITED, cause=EndCause.PROCESS_LIMIT), False, FailureReason.PROCESS_LIMIT, None),
        (replace(EXITED, cause=EndCause.CPU_LIMIT), False, FailureReason.CPU_LIMIT, None),
        (replace(EXITED, cause=EndCause.DISK_LIMIT), False, FailureReason.DISK_LIMIT, None),
    ],
)
def test_every_end_has_its_reason(end, filled, reason, exit_code):
    """Who stopped the command comes before what it said; an exit code is only its own."""
    plan = plan_attempt(assignment(limits=Limits(cpu_seconds=3)), Backend.SPAWNER, "/w", {})
    report = report_of(plan, end, filled_a_file=filled)
    assert (report.failure_reason, report.exit_code) == (reason, exit_code)
    assert (report.sandbox, report.backend) == (SandboxLevel.BASIC, "linux-spawner")
