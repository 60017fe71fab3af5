"""Runs a command many times, several at once, and nothing else: the machine's limit.

    python -S -E benchmarks/spawn_limit.py processes 4 5000 /bin/sh -c true

A program of its own, with nothing imported, since what is forked or spawned costs more the larger its parent is. It writes
`begin` and `end` around what is to be measured.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as lean as can be
if TYPE_CHECKING:
    from collections.abc import Callable


def one_after_another(command: list[str], count: int) -> None:
    """Spawn and wait."""
    for _ in range(count):
        wait(os.posix_spawnp(command[0], command, {"PATH": os.defpath}), command[0])


def wait(pid: int, name: str) -> None:
    """Wait for a process that shall succeed."""
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{name} failed")


def spread(work: Callable[[], None], at_once: int) -> None:
    """Do the work in several processes."""
    pids = []
    for _ in range(at_once):
        pid = os.fork()
        if pid == 0:
            work()
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        wait(pid, "a process of several")


def in_processes(command: list[str], count: int, at_once: int) -> None:
    """Let several processes each spawn and wait."""
    spread(lambda: one_after_another(command, count // at_once), at_once)


def in_one(command: list[str], count: int, at_once: int) -> None:
    """Keep several alive from one process."""
    started = living = 0
    while started < count or living:
        while living < at_once and started < count:
            os.posix_spawnp(command[0], command, {"PATH": os.defpath})
            started, living = started + 1, living + 1
        if os.waitpid(-1, 0)[1]:
            sys.exit(f"{command[0]} failed")
        living -= 1


WAYS = {"processes": in_processes, "one": in_one}

if __name__ == "__main__":
    way, at_once, count, *command = sys.argv[1:]
    os.write(1, b"begin\n")
    WAYS[way](command, int(count), int(at_once))
    os.write(1, b"end\n")
