"""Make the steps of a sandbox fail or lie, inside the processes that take them. Imported by a spawner, so lean."""

from __future__ import annotations

import errno
import json
import os
import sys

from worker_node.sandbox import command, kernel, outfit, spawner

if sys.platform != "win32":
    import fcntl
    import resource
    import socket

SCRIPT = """
import sys
sys.path.append({root!r})
from tests.support import faults
faults.follow({order!r})
sys.exit(faults.spawner.main(int(sys.argv[1])))
"""

_KERNEL = [
    *("mount", "unmount", "restrict_mounts", "enter_root", "raise_loopback", "load_filter", "enter_namespace"),
    *("landlock_ruleset", "landlock_allow", "landlock_restrict", "forbid_new_privileges"),
    *("bound_capabilities", "drop_capabilities", "become_user", "prctl", "show_memory", "hide_memory"),
]
_OS = [
    *("setsid", "chdir", "open", "mkdir", "symlink", "write", "scandir", "fork", "pipe", "dup2", "execve", "close"),
    *("pread", "pwrite", "read", "statvfs", "setgroups", "setresgid", "setresuid", "umask", "posix_spawn"),
]


class _Steps:
    """Counts the calls along the path of one sandbox, through its forks, and breaks one of them."""

    def __init__(self, break_at: int, way: str) -> None:
        self.count = 0
        self.break_at = break_at
        self.way = way

    def wrap(self, place: object, name: str) -> None:
        real = getattr(place, name)

        def step(*arguments: object, **keywords: object) -> object:
            self.count += 1
            if self.count == self.break_at:
                # One that dies in exec looks like a command that dies at its first instruction.
                if self.way == "death" and name not in {"execve", "posix_spawn"}:
                    os._exit(9)
                raise OSError(errno.EPERM, f"broken on purpose at call {self.count}, {name}")
            result = real(*arguments, **keywords)
            if name in {"fork", "posix_spawn"} and result:
                self.break_at = 0  # the path goes on in the child, or is at its end
            return result

        setattr(place, name, step)


def follow(order_path: str) -> None:
    """Follow the orders in a file, read anew for each sandbox: `{"break_at": N, "way": "error" | "death"}`.

    `{"lies": [NAME]}` makes these functions of the kernel module do nothing and say that all is well;
    `{"fails": [NAME]}` makes them fail at each call; `{"without": FLAG}` leaves a namespace out.
    """
    clone, unshare, become = kernel.clone, kernel.unshare, command.become
    keepers: list[_Steps] = []
    order: dict = {}
    wear, launch = outfit.Outfit.__init__, outfit.Outfit.launch

    def cloning(flags: int) -> int:
        if flags & kernel.CLONE_NEWUSER:
            order.clear()
            order.update(_read(order_path))  # kept by the keeper of the mould, which sees the file no more
        if "clone" in order.get("fails", ()):
            _fail()
        pid = clone(flags & ~order.get("without", 0))
        if pid == 0 and flags & kernel.CLONE_NEWUSER:
            keepers.append(_apply(order))  # also for the first process, which it clones
        elif pid:
            for steps in keepers:
                steps.break_at = 0  # the path goes on in the first process
        return pid

    def unsharing(flags: int) -> None:
        unshare(flags & ~order.get("without", 0))

    def becoming(plan: dict, *arguments: object) -> object:
        if not plan["sandbox"]:
            _apply(_read(order_path))
        return become(plan, *arguments)

    def wearing(self: outfit.Outfit, *arguments: object) -> None:
        self.steps = _apply(_read(order_path))
        wear(self, *arguments)

    def launching(self: outfit.Outfit, *arguments: object) -> object:
        pid = launch(self, *arguments)
        self.steps.break_at = 0  # for the supervisor's own path; one that failed ends
        return pid

    kernel.clone, kernel.unshare, command.become = cloning, unsharing, becoming
    outfit.Outfit.__init__, outfit.Outfit.launch = wearing, launching


def _read(order_path: str) -> dict:
    with open(order_path, encoding="utf-8") as file:  # noqa: PTH123 - a spawner has no pathlib
        return json.load(file)


def _apply(order: dict) -> _Steps:
    steps = _Steps(order.get("break_at", 0), order.get("way", ""))
    if steps.break_at:
        for name in _KERNEL:
            steps.wrap(kernel, name)
        for name in _OS:
            steps.wrap(os, name)
        steps.wrap(resource, "setrlimit")
        steps.wrap(fcntl, "fcntl")
        steps.wrap(socket, "sethostname")
    for name in order.get("lies", ()):
        setattr(kernel, name, lambda *_: None)
    for name in order.get("fails", ()):
        setattr(kernel, name, _fail)
    return steps


def _fail(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


__all__ = ["SCRIPT", "follow", "spawner"]
