"""The last steps before a command: restrict this process for ever, then become the command.

Runs in a process forked by the supervisor. Standard library only. Every step that fails is written to the
status pipe and the command never runs; the pipe closes by itself when the command has taken over.
"""

from __future__ import annotations

import os
import signal
import sys

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn
if sys.platform != "win32":
    import fcntl
    import resource

SETUP_FAILED: Final = 125

RLIMITS: Final = {
    "core": "RLIMIT_CORE",
    "open_files": "RLIMIT_NOFILE",
    "file_bytes": "RLIMIT_FSIZE",
    "data_bytes": "RLIMIT_DATA",
    "cpu_seconds": "RLIMIT_CPU",
}

FIRST_DESCRIPTORS: Final = 256
"""More than the spawner ever has open."""

CPU_KILL_AFTER_S: Final = 5
"""Between SIGXCPU, which a command may catch, and the kernel's SIGKILL."""


def become(plan: dict[str, Any], stdout: int, stderr: int, status: int, supervisor_pid: int) -> NoReturn:
    """Apply the plan and execute its command. Never returns, never raises."""
    step = "start"
    try:
        # Later code could change user ids, which clears the death signal: it is set first and checked last.
        step = "death signal"
        kernel.die_with_parent(signal.SIGKILL, supervisor_pid)
        step = "session"
        os.setsid()
        step = "descriptors"
        status = _arrange_descriptors(stdout, stderr, status)
        step = "working folder"
        os.umask(0o077)
        os.chdir(plan["workspace"])
        step = "oom score"
        _be_killed_first(plan["oom_score_adj"])
        for name, value in plan["rlimits"].items():
            step = f"limit {name}"
            _limit(name, value)
        step = "no new privileges"
        if plan["no_new_privileges"]:
            kernel.forbid_new_privileges()
        step = "death signal"
        kernel.die_with_parent(signal.SIGKILL, supervisor_pid)
        step = "execute"
        argv = [os.fsencode(word) for word in plan["argv"]]
        os.execve(argv[0], argv, {os.fsencode(k): os.fsencode(v) for k, v in plan["env"].items()})  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - this process must end here, whatever happened
        try:
            os.write(status, f"{step}: {error}".encode("utf-8", "replace")[:3000])
        finally:
            os._exit(SETUP_FAILED)


def _arrange_descriptors(stdout: int, stderr: int, status: int) -> int:
    """Give the command descriptors 0 to 2 and keep only the status pipe besides, which closes at exec."""
    # All three may carry numbers below 3 here: move them out of the way before anything is put there.
    stdout, stderr, status = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (stdout, stderr, status))
    null = os.open("/dev/null", os.O_RDONLY)
    for target, source in ((0, null), (1, stdout), (2, stderr)):
        os.dup2(source, target, inheritable=True)
    # All of them close at exec anyway; this is for the one that a later change forgets to mark so.
    os.closerange(3, status)
    os.closerange(status + 1, FIRST_DESCRIPTORS)
    return status


def _be_killed_first(score: int) -> None:
    """When memory runs out the kernel shall take a task before the worker or anything else."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    # A worker that itself runs above this score may not lower it, and need not.
    if int(os.read(fd, 16)) < score:
        os.pwrite(fd, b"%d" % score, 0)
    os.close(fd)


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, RLIMITS[name])
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        value = min(value, ceiling)
    hard = value
    if name == "cpu_seconds":
        hard = value + CPU_KILL_AFTER_S
        if ceiling != resource.RLIM_INFINITY:
            hard = min(hard, ceiling)
    resource.setrlimit(kind, (value, hard))
