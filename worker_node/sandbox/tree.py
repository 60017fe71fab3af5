"""Open what lies below a folder without ever being led out of it: no links, no other file systems, no waiting.

On Linux the kernel resolves a whole name beneath the folder in one call. Where that call is missing, and on other
POSIX systems, each part is opened by itself and must not be a link. Windows has neither; there each part is looked
at by its path, which holds as long as nobody changes it meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from worker_node.sandbox import kernel

_AGAIN: Final = 100
"""Tries of a name while others rename around it."""


class Tree:
    """A folder to look into. Names are relative, with `/` between their parts; "" is the folder itself."""

    def __init__(self, folder: Path | int) -> None:
        """Open the folder, or take an open descriptor of it; raises OSError."""
        self._path = folder if isinstance(folder, Path) else Path()
        self._root = -1
        self._has_beneath = sys.platform == "linux"
        if sys.platform != "win32":
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            # One that came from elsewhere may not be good for reading.
            self._root = os.open(folder, flags) if isinstance(folder, Path) else os.open(".", flags, dir_fd=folder)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        if self._root >= 0:
            os.close(self._root)

    @property
    def owner(self) -> int | None:
        """Return whose folder it is, None where folders have no owner."""
        return os.fstat(self._root).st_uid if self._root >= 0 else None

    def status(self, name: str) -> os.stat_result:
        """Return what a name stands for, a link as a link; raises OSError."""
        if sys.platform == "win32":
            return self._checked(name).lstat()
        folder, _, last = name.rpartition("/")
        fd = self._open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.stat(last, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def open(self, name: str) -> int:
        """Open a file to be read; raises OSError. Look at what was opened: it may not be a regular file."""
        if sys.platform == "win32":
            return os.open(self._checked(name), os.O_RDONLY | os.O_BINARY)
        return self._open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)

    def entries(self, folder: str, limit: int) -> list[tuple[str, bool]]:
        """Return at most so many names in a folder, and whether each is a folder itself; raises OSError."""
        if sys.platform == "win32":
            with os.scandir(self._checked(folder)) as found:
                return _first(found, limit)
        fd = self._open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as found:
                return _first(found, limit)
        finally:
            os.close(fd)

    # --- POSIX -------------------------------------------------------------------------------------

    def _open(self, name: str, flags: int) -> int:
        for _ in range(_AGAIN):
            try:
                if self._has_beneath:
                    return kernel.open_beneath(self._root, os.fsencode(name or "."), flags | os.O_NOFOLLOW)
                return self._open_by_parts(name, flags)
            except OSError as error:
                if error.errno in {errno.ENOSYS, errno.EPERM} and self._has_beneath:
                    self._has_beneath = False
                elif error.errno != errno.EAGAIN:
                    raise
        raise OSError(errno.EAGAIN, "it is renamed all the time")

    def _open_by_parts(self, name: str, flags: int) -> int:
        *folders, last = name.split("/") if name else ["."]
        if ".." in folders or last == "..":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        device = os.fstat(self._root).st_dev
        fd = os.dup(self._root)
        for part in folders:
            fd = _stepped(fd, part, os.O_RDONLY | os.O_DIRECTORY, device)
        return _stepped(fd, last, flags, device)

    # --- Windows -----------------------------------------------------------------------------------

    def _checked(self, name: str) -> Path:
        path = self._path
        for part in name.split("/") if name else ():
            path /= part
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", False):
                raise OSError(errno.ELOOP, "a link")
        return path


def _first(entries: Iterator[os.DirEntry[str]], limit: int) -> list[tuple[str, bool]]:
    return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in itertools.islice(entries, limit)]


def _stepped(folder: int, name: str, flags: int, device: int) -> int:
    """Open a name in a folder, which is closed whatever happens; raises OSError."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return fd
