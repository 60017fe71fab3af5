"""Calling a function as an ordinary user when the tests run as root, who is stopped by next to nothing.

    verdicts = as_ordinary_user("tests.support.something:look", "/etc/shadow")

Tests that run as an ordinary user call it directly. As root the function is called in another process, which gave
up root for good before it started the interpreter: arguments and result travel as JSON, an exception fails the
caller with its text. TMPDIR is a folder that belongs to the user and is gone afterwards.

An interpreter below a closed folder such as /root cannot be executed by anybody else. The process then lives in a
mount namespace of its own, in which the closed folder is an open one that holds nothing but what Python needs, at
the same paths. The rest of the machine is the same.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UID = GID = 65534
"""nobody: the only ordinary user that every Linux knows by name."""
TIMEOUT_S = 120.0

_CLONE_NEWNS = 0x0002_0000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
_PR_SET_PDEATHSIG = 1
_EXECUTE_BY_OTHERS = 0o001


class NoOtherUser(Exception):
    """This machine does not let the tests become an ordinary user; the message says why."""


def as_ordinary_user(target: str, *arguments: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """Call `module:function` with JSON values, as nobody if this is root; raises NoOtherUser."""
    if os.geteuid() != 0:
        return _function(target)(*arguments)
    return as_other_user(target, *arguments, timeout_s=timeout_s)


def as_other_user(target: str, *arguments: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """Call `module:function` as nobody; needs root."""
    # Not below this user's own temporary folder, which may be closed to others.
    folder = tempfile.mkdtemp(prefix="octaskly-other-user-", dir="/var/tmp")
    os.chown(folder, UID, GID)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.other_user", "become", target, json.dumps(arguments)],
            check=False,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer = json.loads(done.stdout) if done.stdout else {}
    if reason := answer.get("unavailable"):
        raise NoOtherUser(reason)
    assert done.returncode == 0, f"{target} as user {UID}: exit code {done.returncode}\n{done.stderr}"
    return answer["result"]


def _function(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


# --- in the other process, still root ----------------------------------------------------------------


def _become(target: str, arguments: str) -> None:
    """Give up root and start the interpreter anew: only then does /proc show the process as that user's own."""
    try:
        _open_the_way()
        os.setgroups([])
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
        os.execv(sys.executable, [sys.executable, "-m", "tests.support.other_user", "call", target, arguments])
    except (OSError, NoOtherUser) as error:
        json.dump({"unavailable": f"cannot run Python as user {UID}: {error}"}, sys.stdout)


def _open_the_way() -> None:
    """Make what Python needs reachable for everybody, in a mount namespace of this process's own."""
    needed = {Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix, ROOT)}
    closed: dict[Path, list[Path]] = {}
    for folder in needed:
        for above in reversed(folder.parents):
            if not above.stat().st_mode & _EXECUTE_BY_OTHERS:
                closed.setdefault(above, []).append(folder)
                break
    if not closed:
        return
    try:
        _libc_call("unshare", _CLONE_NEWNS)
        _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)
        for above, folders in closed.items():
            _replace_by_open_folder(above, folders)
    except OSError as error:
        names = ", ".join(map(str, closed))
        raise NoOtherUser(f"{names} is closed to others, and mounts are not possible here: {error}") from error


def _replace_by_open_folder(above: Path, folders: list[Path]) -> None:
    """Cover a folder with an empty one, and show some of what is below it again at its old place."""
    kept = {folder: os.open(folder, os.O_PATH) for folder in folders}
    _mount("octaskly-test", str(above), "tmpfs", 0, "mode=0755")
    for folder, fd in kept.items():
        folder.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{fd}", str(folder), None, _MS_BIND | _MS_REC, None)
        os.close(fd)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    source_, target_, kind_, options_ = (
        None if text is None else text.encode() for text in (source, target, kind, options)
    )
    _libc_call("mount", source_, target_, kind_, ctypes.c_ulong(flags), options_)


def _libc_call(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


# --- in the other process, as the user ---------------------------------------------------------------


def _call(target: str, arguments: str) -> None:
    """Call the function. What it prints goes where its errors go: standard output carries the answer alone."""
    # Interrupted tests leave nobody behind. Not earlier: a change of user forgets it.
    _libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        json.dump({"result": _function(target)(*json.loads(arguments))}, answer)


if __name__ == "__main__":
    {"become": _become, "call": _call}[sys.argv[1]](*sys.argv[2:])
