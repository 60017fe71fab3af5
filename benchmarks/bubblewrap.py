"""bubblewrap with the isolation of `strict`, one sandbox a command, the way others do it.

    python -S -E -m benchmarks.bubblewrap 4 5000 /bin/sh -c true

What it is told to do is what `strict` does for each command: namespaces of all kinds, the system read-only, a folder
made for the command as /tmp and removed after it, 64 MiB of /dev/shm, no capabilities, and the very filter over system
calls. Limits of processes it has no option for; inherited, they cost nothing. Like `benchmarks.spawn_limit` a program
with little imported, which writes `begin` and `end` around what is to be measured.
"""

from __future__ import annotations

import os
import sys
import tempfile

from benchmarks.spawn_limit import spread, wait
from worker_node.sandbox.new_root import HOST_NAME, SHARED_MEMORY_BYTES
from worker_node.sandbox.seccomp import build_filter

BWRAP = "bwrap"
_FILTER_FD = 9
_OPTIONS = [
    *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", HOST_NAME),
    *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64", "--symlink", "usr/sbin", "/sbin", "--ro-bind", "/etc", "/etc"),
    *("--proc", "/proc", "--dev", "/dev", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108
    *("--chdir", "/tmp", "--seccomp", str(_FILTER_FD)),  # noqa: S108 - the sandbox's own
]


class Bubblewrap:
    """Runs commands one after the other."""

    def __init__(self, folder: str) -> None:
        """Keep filter and workspace in a folder of its own."""
        self._filter, self._workspace = f"{folder}/filter", f"{folder}/work"
        with open(self._filter, "wb") as file:  # noqa: PTH123 - no pathlib: as lean as what it is compared with
            file.write(build_filter(os.uname().machine, denies_hidden_memory=False))

    def run(self, command: list[str], actions: list[tuple[int, ...]] | None = None) -> None:
        """Make the workspace, run the command in a sandbox around it, remove it.

        The actions are for posix_spawn, such as where the output shall go.
        """
        os.mkdir(self._workspace, 0o700)  # noqa: PTH102 - see above
        argv = [BWRAP, *_OPTIONS, "--bind", self._workspace, "/tmp", *command]  # noqa: S108
        opening = (os.POSIX_SPAWN_OPEN, _FILTER_FD, self._filter, os.O_RDONLY, 0)
        wait(os.posix_spawnp(BWRAP, argv, {"PATH": os.defpath}, file_actions=[*(actions or []), opening]), BWRAP)
        os.rmdir(self._workspace)  # noqa: PTH106 - see above


def main(at_once: int, count: int, command: list[str]) -> None:
    """Run so many commands, several at once."""

    def run_share() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bubblewrap = Bubblewrap(folder)
            for _ in range(count // at_once):
                bubblewrap.run(command)

    os.write(1, b"begin\n")
    spread(run_share, at_once)
    os.write(1, b"end\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
