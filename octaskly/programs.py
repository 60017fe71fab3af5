"""The programs as subcommands: `octaskly dispatcher`, `octaskly worker`, `octaskly manage`; and the console script.

They pin OpenSSL before anything loads it, and the client's libraries load it: so the programs come first here, and
where it is too late, a fresh process takes over.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from octaskly_wire.cipher_pin import is_openssl_loaded


def run_dispatcher(argv: Sequence[str]) -> int:
    """Run the dispatcher as `manage.py rundispatcher` does, with the same flags."""
    return _run("octaskly_site", "rundispatcher", *argv)


def run_worker(argv: Sequence[str]) -> int:
    """Run a worker as `python -m worker_node` does, with the same flags."""
    return _run("worker_node", *argv)


def run_manage(argv: Sequence[str]) -> int:
    """Run another management command: `jointoken`, `backup`, `restore`, `auditverify`."""
    return _run("octaskly_site", *argv)


PROGRAMS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "dispatcher": run_dispatcher,
    "worker": run_worker,
    "manage": run_manage,
}


def main() -> None:
    """Be the console script."""
    name, *argv = sys.argv[1:] or [""]
    if name in PROGRAMS:
        sys.exit(PROGRAMS[name](argv))
    from octaskly.__main__ import main as client

    sys.exit(client())


def _run(module: str, *argv: str) -> int:
    """Run what `python -m MODULE` runs, in this process where that can still be."""
    if is_openssl_loaded():
        command = [sys.executable, "-m", module, *argv]
        if os.name != "nt":  # exec on Windows gives the terminal back too early.
            os.execv(sys.executable, command)  # noqa: S606 - our own program, no shell
        return subprocess.run(command, check=False).returncode  # noqa: S603 - the same
    sys.argv[1:] = argv
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0
