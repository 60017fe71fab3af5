"""Attempt folders: made, handed to one command, wiped. Used only while no process of the attempt lives.

Making and removing a folder waits for the journal of its file system, which others may be filling. A folder in which
the command left nothing serves another attempt instead.
"""

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
        self._spare: list[Path] = []
        self._made = 0

    def take(self, *, is_new: bool) -> Path:
        """Return an empty folder for one attempt, which may have served others unless it is to be new."""
        if self._spare and not is_new:
            return self._spare.pop()
        self._made += 1
        return self.create(str(self._made))

    def give_back(self, folder: Path, *, is_untouched: bool = False) -> bool:
        """Keep a folder for another attempt if it is as good as new, or known to be untouched; return whether it is.

        What only looks new may have something hidden in its times: not for one that a sandbox showed.
        """
        if not is_untouched and not _is_as_new(folder):
            return False
        self._spare.append(folder)
        return True

    def close(self) -> None:
        """Remove the folders that wait for attempts."""
        while self._spare:
            self.remove_if_empty(self._spare.pop())

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


def _is_as_new(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
        return is_empty and os.stat(folder).st_mode == stat.S_IFDIR | 0o700 and not os.listxattr(folder)
    except (OSError, AttributeError):  # gone, or no such attributes on this system: made anew each time
        return False


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
