"""Runs tests with the newest supported Python that this machine has beside the one it uses: asyncio differs between versions.

    make newest-python        (ARGS=tests/acceptance for others than the usual ones)

All that is here is copied into a folder that is gone afterwards, with an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bootstrap import ROOT, SUPPORTED, installed_python

USUAL = (
    "tests/unit",
    "tests/integration/test_task_outputs.py",
    "tests/integration/test_worker_lifetime.py",
    "tests/integration/test_worker_link.py",
    "tests/acceptance/octaskly",
)
"""The pure cores, a worker from its start to its end, and the programs together: a minute."""

LEFT_OUT = (".git", ".venv", "build", "data", "dist", "__pycache__", ".*_cache")


def main() -> int:
    """Run from the command line; return what pytest returns."""
    python = _newest()
    if python is None:
        print(f"skipped: this machine has no supported Python that is newer than {sys.version.split()[0]}")
        return 0
    with tempfile.TemporaryDirectory(prefix="octaskly-newest-") as folder:
        Path(folder).chmod(0o755)  # some tests become another user
        copy = shutil.copytree(ROOT, Path(folder, "copy"), symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        subprocess.run([python, "scripts/bootstrap.py", "--dev"], cwd=copy, check=True)
        tests = [".venv/bin/python", "-m", "pytest", "-n", "2", "--dist", "loadgroup", *(sys.argv[1:] or USUAL)]
        return subprocess.run(tests, cwd=copy, check=False).returncode


def _newest() -> str | None:
    for version in reversed(SUPPORTED):
        if version <= sys.version_info[:2]:
            return None
        if found := installed_python(version) or _of_pyenv(version):
            return found
    return None


def _of_pyenv(version: tuple[int, int]) -> str:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    return max(map(str, versions.glob("{}.{}.*/bin/python3".format(*version))), default="")


if __name__ == "__main__":
    sys.exit(main())
