#!/usr/bin/env python3
"""What `make run` does: set up when needed, then become the dispatcher with one local worker."""

from __future__ import annotations

import os
import subprocess
import sys

from bootstrap import ROOT, ensure_environment


def main() -> int:
    """Start the dispatcher with the flags given."""
    python = str(ensure_environment(dev=False))
    command = [python, str(ROOT / "manage.py"), "rundispatcher", "--with-worker", *sys.argv[1:]]
    os.chdir(str(ROOT))  # `./data` is the clone's own folder, wherever the command was given.
    if os.name != "nt":  # exec on Windows gives the terminal back too early.
        os.execv(python, command)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
