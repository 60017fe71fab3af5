#!/usr/bin/env python3
"""Makes .venv and installs the pinned requirements into it, once per change of the requirement files.

Runs on whatever Python there is, so that a too old or too new one gets a sentence instead of a traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
RUN_FILES = ("requirements.txt",)
DEV_FILES = ("requirements.txt", "requirements-dev.txt")
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def main() -> int:
    """Set up from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="install what the checks need, too")
    ensure_environment(dev=parser.parse_args().dev)
    return 0


def ensure_environment(*, dev: bool) -> Path:
    """Return the virtual environment's Python, with every pinned requirement installed."""
    stamp = VENV / (".installed-dev" if dev else ".installed-run")
    wanted = _fingerprint(DEV_FILES if dev else RUN_FILES)
    if VENV_PYTHON.exists() and _read(stamp) == wanted:
        return VENV_PYTHON
    if not VENV_PYTHON.exists():
        _make_venv(_supported_python())
    _say("installing {} (once)".format("the requirements and the checking tools" if dev else "the requirements"))
    files = [argument for name in (DEV_FILES if dev else RUN_FILES) for argument in ("-r", str(ROOT / name))]
    done = subprocess.run(
        [str(VENV_PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes", *files],
        check=False,
    )
    if done.returncode != 0:
        sys.exit("octaskly: pip could not install the requirements; its message stands above")
    _add_command()
    stamp.write_text(wanted, encoding="ascii")
    if dev:  # The development set contains the other one, at the same versions.
        (VENV / ".installed-run").write_text(_fingerprint(RUN_FILES), encoding="ascii")
    return VENV_PYTHON


def _make_venv(python: str) -> None:
    if VENV.exists():  # Left by a Python that is gone.
        shutil.rmtree(str(VENV))
    _say("making the virtual environment .venv")
    done = subprocess.run([python, "-m", "venv", str(VENV)], check=False)
    if done.returncode != 0:
        shutil.rmtree(str(VENV), ignore_errors=True)
        sys.exit("octaskly: Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv")


def _add_command() -> None:
    """Make this clone's packages importable in the environment, and give it the command `octaskly`."""
    asked = [str(VENV_PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    Path(packages, "octaskly-clone.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    if os.name == "nt":  # There it is `python -m octaskly`.
        return
    command = VENV_PYTHON.with_name("octaskly")
    command.write_text(f"#!{VENV_PYTHON}\nfrom octaskly.programs import main\n\nmain()\n", encoding="utf-8")
    command.chmod(0o755)


def _supported_python() -> str:
    """Return this Python if it is of a supported version, else the newest such one on the path."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for supported in reversed(SUPPORTED):
        found = installed_python(supported)
        if found:
            return found
    version = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(
        f"octaskly: needs Python 3.11, 3.12 or 3.13, and this one is {version}. "
        "Choose one with: make run PYTHON=python3.12"
    )


def installed_python(version: tuple[int, int]) -> str:
    """Return the name of this version's Python on the path, empty when there is none."""
    name = "python{}.{}".format(*version)
    # A launcher may stand on the path for a version that is not installed: ask it.
    runs = shutil.which(name) and subprocess.run([name, "-c", ""], check=False, capture_output=True).returncode == 0
    return name if runs else ""


def _fingerprint(names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _say(message: str) -> None:
    print(f"octaskly: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
