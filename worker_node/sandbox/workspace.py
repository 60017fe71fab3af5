"""Attempt folders: made, handed to one command, wiped. Used only while no process of the attempt lives."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "attempt-"
"""Keeps an attempt id such as `..` from being a path."""


class Workspaces:
    """The folder that holds one folder an attempt."""

    def __init__(self, root: Path) -> None:
        """Make the root, closed to other users."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root

    def create(self, attempt_id: str) -> Path:
        """Make the empty folder of one attempt."""
        folder = self.root / (_PREFIX + attempt_id)
        folder.mkdir(mode=0o700)
        return folder

    def remove_if_empty(self, folder: Path) -> bool:
        """Remove an attempt's folder if nothing is in it, as after most commands; return whether it is gone."""
        try:
            folder.rmdir()
        except OSError:
            return False
        return True

    def wipe(self, folder: Path) -> None:
        """Remove an attempt's folder with all it holds, however deep and whatever its modes."""
        _wipe(folder, self.root)

    def wipe_all(self) -> int:
        """Remove what an earlier life left behind; return how many folders that were."""
        leftovers = list(self.root.iterdir())
        for leftover in leftovers:
            if leftover.is_dir() and not leftover.is_symlink():
                _wipe(leftover, self.root)
            else:
                leftover.unlink()
        return len(leftovers)


def has_file_of(folder: Path, size_bytes: int) -> bool:
    """Return whether a regular file of at least this size lies anywhere in the folder."""
    return any(stat.S_ISREG(status.st_mode) and status.st_size >= size_bytes for status in _statuses(str(folder)))


def _statuses(folder: str) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(parent, name))


def _wipe(folder: Path, root: Path) -> None:
    """Remove a tree without recursion: each subfolder is moved up to the root first, so no path grows long."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        current.chmod(0o700)
        with os.scandir(current) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                os.chmod(entry.path, 0o700)  # a folder can only be moved by who may write in it
                target = root / f".wipe-{secrets.token_hex(8)}"
                os.rename(entry.path, target)
                waiting.append(target)
        current.rmdir()
