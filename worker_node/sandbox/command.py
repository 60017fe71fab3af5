"""The last steps before a command: restrict this process for ever, then become the command.

Runs in a process forked for it. Standard library only. Every step that fails is written to the status pipe and
the command never runs. One that dies on the way writes nothing. Just before the command takes over a mark is
written, and the pipe closes by itself: the mark alone means that the command runs.
"""

from __future__ import annotations

import os
import signal
import sys

from worker_node.sandbox import kernel, landlock, seccomp

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
    "processes": "RLIMIT_NPROC",
}

FIRST_DESCRIPTORS: Final = 256
"""More than a supervisor ever has open."""

CPU_KILL_AFTER_S: Final = 5
"""Between SIGXCPU, which a command may catch, and the kernel's SIGKILL."""

_SIGNALS: Final = tuple(int(number) for number in signal.valid_signals())
"""Of all of them the command is to know nothing: asked for that, libc makes half the calls in the child."""

_ALL_DONE: Final = b"\0"

_filters: Final[dict[bool, kernel.FilterProgram]] = {}


def prepare_filters() -> None:
    """Build the system call filters once, for all forks; on a machine without one each use of it fails."""
    if sys.maxsize < 1 << 32:
        return  # a 32-bit process makes the calls that the filter kills
    try:
        for denies_hidden_memory in (False, True):
            program = seccomp.build_filter(os.uname().machine, denies_hidden_memory=denies_hidden_memory)
            _filters[denies_hidden_memory] = kernel.FilterProgram(program)
    except seccomp.UnknownMachine:
        _filters.clear()


class CannotLaunch(Exception):
    """A step failed; the command did not run. Says which step."""


def spawn(plan: dict[str, Any], fds: tuple[int, int, int], *, is_of_real_user: bool = False) -> int:
    """Start the command, restricted as this process is, in a session of its own; raise OSError or ValueError.

    It has these descriptors as its first three and no other: all of ours close at exec. It acts as the user that this
    process acts as, or as its real one.
    """
    argv, (stdin, stdout, stderr) = plan["argv"], fds
    descriptors = (os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)
    return os.posix_spawn(
        argv[0],
        argv,
        plan["env"],
        file_actions=descriptors,
        resetids=is_of_real_user,
        setsid=True,
        setsigmask=(),
        setsigdef=_SIGNALS,
    )


def launch(plan: dict[str, Any], stdout: int, stderr: int, uid: int | None) -> int:
    """Fork the command and return its process id; raise CannotLaunch, and then it is reaped."""
    status_read, status_write = os.pipe()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        kernel.show_memory()
        become(plan, stdout, stderr, status_write, parent_pid, uid)
    os.close(status_write)
    text = b""
    while part := os.read(status_read, 4096):
        text += part
    os.close(status_read)
    if text == _ALL_DONE:
        return pid
    os.waitpid(pid, 0)
    detail = text.removeprefix(_ALL_DONE).decode("utf-8", "replace")
    raise CannotLaunch(detail or "command: died before it was started")


def become(plan: dict[str, Any], stdout: int, stderr: int, status: int, parent_pid: int, uid: int | None) -> NoReturn:
    """Apply the plan and execute its command. Never returns, never raises.

    `uid` is the user to change to, None to stay who one is. Inside a sandbox `parent_pid` is 1.
    """
    step = "start"
    try:
        sandbox = plan["sandbox"]
        # Changing user clears the death signal: it is set first, and again when that is done.
        step = "death signal"
        kernel.die_with_parent(signal.SIGKILL, parent_pid)
        step = "session"
        os.setsid()
        step = "descriptors"
        status = _arrange_descriptors(stdout, stderr, status)
        step = "working folder"
        os.umask(0o077)
        os.chdir("/tmp" if sandbox else plan["workspace"])  # noqa: S108 - the sandbox's own
        step = "oom score"
        be_killed_first(plan["oom_score_adj"])
        for name, value in plan["rlimits"].items():
            step = f"limit {name}"
            limit(name, value)
        if uid is not None:
            step = "user"
            kernel.become_user(uid)
        if plan["no_new_privileges"]:
            step = "no new privileges"
            kernel.forbid_new_privileges()
        if sandbox:
            step = "landlock"
            restrict_by_landlock(sandbox)
            step = "system call filter"
            load_filter(sandbox)
        step = "death signal"
        kernel.die_with_parent(signal.SIGKILL, parent_pid)
        step = "execute"
        os.write(status, _ALL_DONE)
        if plan["canary"]:
            _sing(plan["canary"])
        argv = [os.fsencode(word) for word in plan["argv"]]
        os.execve(argv[0], argv, {os.fsencode(k): os.fsencode(v) for k, v in plan["env"].items()})  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - this process must end here, whatever happened
        try:
            os.write(status, f"{step}: {error}".encode("utf-8", "replace")[:3000])
        finally:
            os._exit(SETUP_FAILED)


def be_killed_first(score: int) -> int:
    """Make the kernel take this process before the worker or anything else when memory runs out; return what it had."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    # A worker that itself runs above this score may not lower it, and need not.
    present = int(os.read(fd, 16))
    if present < score:
        os.pwrite(fd, b"%d" % score, 0)
    os.close(fd)
    return present


def restrict_by_landlock(sandbox: dict[str, Any]) -> None:
    """Put the rules that the plan of a sandbox asks for over this process, for ever; raise OSError."""
    if not sandbox["landlock_abi"]:
        return
    if sandbox["is_very_strict"]:
        landlock.restrict(sandbox["landlock_abi"])
    elif landlock.has_scopes(sandbox["landlock_abi"]):
        landlock.keep_sockets_inside()


def load_filter(sandbox: dict[str, Any]) -> None:
    """Put the system call filter of a sandbox over this process, for ever; raise OSError."""
    denies_hidden_memory = sandbox["denies_hidden_memory"]
    if denies_hidden_memory not in _filters:
        raise OSError(0, f"there is no filter for {os.uname().machine}")
    kernel.load_filter(_filters[denies_hidden_memory])


def _sing(facts: dict[str, Any]) -> NoReturn:
    """Run the probe's attacks where the command would have been, restricted like it."""
    from worker_node.sandbox.canary import sing  # loaded by the supervisor when a plan asks for it

    sing(facts)
    os._exit(0)


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


def limit(name: str, value: int) -> None:
    """Put a limit on this process for ever, as far as it is not under a lower one; raise OSError."""
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
