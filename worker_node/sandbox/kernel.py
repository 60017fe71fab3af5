"""The few Linux calls that Python does not offer: prctl. Standard library only, the spawner imports it."""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def prctl(option: int, value: int) -> None:
    """Set one option of this process; raise OSError when the kernel refuses."""
    if _libc is None:
        raise OSError(0, "prctl exists on Linux only")
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Ask for a signal when the parent dies; raise ProcessLookupError when it is dead already.

    The order matters: a parent that died before the call sends nothing, so it is looked at afterwards.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent_pid:
        raise ProcessLookupError("the parent process is gone")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, whatever session it is in."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Make setuid programs powerless for this process and all it starts, for ever."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Close /proc/PID/environ and /proc/PID/mem of this process to others of the same user."""
    prctl(PR_SET_DUMPABLE, 0)
