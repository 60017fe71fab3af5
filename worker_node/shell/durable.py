"""Files that are whole and for good: written beside their place, synced, renamed, and the folder synced."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

UNFINISHED: Final = ".new"
"""How the names of files end that did not get their place; they begin with a dot."""


def put_file(path: Path, data: bytes) -> None:
    """Put a file of mode 0600 in its place, or in that of an older one; raises OSError and leaves nothing half done.

    Its name is on disk only after `sync_folder`, which may serve many files at once.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        unfinished.unlink(missing_ok=True)
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Return once the folder's names are on disk; raises OSError."""
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS journals the rename
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
