"""Take a file over as it is, without a copy: a name of ours, closed to all others, and proof that nobody writes to it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

_NAMES_AFTERWARDS = 2
"""The one that it had, and ours."""


def take_over(fd: int, size_bytes: int, path: Path) -> bool:
    """Give an open file this name, too; return whether it is that large and nobody can change it any more.

    Otherwise the name is not there, and the file has to be copied: its file system is another one, it has further
    names, or somebody has it open.
    """
    if sys.platform != "linux":
        return False
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The open file itself, whatever its name stands for by now.
            os.link(f"/proc/self/fd/{fd}", path.name, dst_dir_fd=folder)
        finally:
            os.close(folder)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_uid != os.geteuid():
            os.fchown(fd, os.geteuid(), os.getegid())
        os.fchmod(fd, 0o400)
        # In this order: whoever could open it to write until now is seen here.
        if not _is_open_to_write(fd):
            status = os.fstat(fd)
            if (status.st_nlink, status.st_size) == (_NAMES_AFTERWARDS, size_bytes):
                return True
    path.unlink()
    return False


def _is_open_to_write(fd: int) -> bool:
    """Return whether any process has the file open, or mapped, to write to it; raises OSError if nobody can tell."""
    import fcntl

    # Who breaks the lease in its short life causes a signal: be it one that nobody minds.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    try:
        # The kernel gives one for reading only while there is no writer.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
