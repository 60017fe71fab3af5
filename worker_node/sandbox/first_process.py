"""The first process of a sandbox: closes it, starts the command, buries everybody, ends.

Theory of operation. The keeper of the mould clones it for one attempt, into namespaces in which all is in place. It
shows its own processes in /proc, takes away what no command may see, gives up all capabilities, and then restricts itself
for ever as the command shall be restricted: so the command can be spawned without one more fork of Python, and
this process can do no more than wait and say how it ended. When it dies the kernel kills whatever lives in its process
namespace and takes mounts, memory segments and network away: that is the proof that nothing is left, and the way to
kill. Standard library only.
"""

from __future__ import annotations

import os
import signal
import sys

from worker_node.sandbox import command, kernel, new_root, words

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any, NoReturn
if sys.platform != "win32":
    import resource


def be_first(
    channel: int, plan: dict[str, Any], fds: tuple[int, int, int], tmp_fd: int | None, oom_score_adj: int
) -> NoReturn:
    """Be process 1 of a sandbox, for one attempt.

    The descriptors become the command's first three. `tmp_fd` is one of its /tmp that is to outlive the sandbox.
    The score is this process's own, once the command has inherited a higher one.
    """
    step = "death signal"
    try:
        # The parent lives outside, so its number cannot be looked at: that it died before is met at the first word.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        step = "root"
        new_root.close()
        step = "oom score"
        # Opened while this process may still be looked at: hidden, its files in /proc belong to root.
        kernel.show_memory()
        oom_score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        kernel.hide_memory()
        step = "capabilities"
        kernel.drop_capabilities()
        if plan["inherits_inside"]:
            step = "landlock"
            command.restrict_by_landlock(plan["sandbox"])
            step = "system call filter"
            command.load_filter(plan["sandbox"])
            step = "execute"
            main_pid = command.spawn(plan, fds)
        else:
            # Under restrictions that this process cannot live under.
            main_pid = command.launch(plan, fds[1], fds[2], uid=None)
    except command.CannotLaunch as error:
        _give_up(channel, str(error))
    except BaseException as error:  # noqa: BLE001 - it must end here, whatever happened
        _give_up(channel, f"{step}: {error}")
    try:
        for fd in fds:
            os.close(fd)
        os.write(oom_score, b"%d" % oom_score_adj)
        words.tell(channel, b"started", tmp_fd)
        if tmp_fd is not None:
            os.close(tmp_fd)
        _bury(channel, main_pid, is_bounded=bool(plan["sandbox"]["tmp_bytes"]))
    finally:
        os._exit(0)


def _give_up(channel: int, detail: str) -> NoReturn:
    words.tell_failure(channel, detail)
    os._exit(command.SETUP_FAILED)


def _bury(channel: int, main_pid: int, *, is_bounded: bool) -> None:
    """Reap until nobody is left; tell when the command itself has ended. Where others outlive it, raises for an end."""
    is_alone = False
    while not is_alone:
        pid, status = os.waitpid(-1, 0)
        if pid == main_pid:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_us = round((usage.ru_utime + usage.ru_stime) * 1_000_000)
            is_full = is_bounded and new_root.is_full()
            is_alone = not _has_children()
            words.tell(channel, b"main %d %d %d %d %d" % (status, cpu_us, usage.ru_maxrss << 10, is_full, is_alone))


def _has_children() -> bool:
    """Return whether anybody else is left: whoever loses his parent in here becomes a child of this process."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
