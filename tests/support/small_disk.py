"""A file system of few megabytes, to be filled to the last page."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 24


class NoSmallDisk(Exception):
    """This host does not let the tests mount one; the message says why."""


class SmallDisk:
    """The file system, and the file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all the room there is."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Give it back."""
        self._filler.unlink()


@contextmanager
def mounted_at(folder: Path) -> Iterator[SmallDisk]:
    """Mount one at a new folder, and take it away again; raises NoSmallDisk."""
    if os.name != "posix" or os.geteuid() != 0:
        raise NoSmallDisk("needs root to mount a small file system")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700", "octaskly-test", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise NoSmallDisk(f"needs `mount`: {error}") from error
    if done.returncode != 0:
        raise NoSmallDisk(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: should a program have outlived its test, the folder is free all the same.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
