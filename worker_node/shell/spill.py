"""Files without a name in which long output waits for its end. What is in them is gone with the worker."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

CAN_SPILL: Final = hasattr(os, "pread") and hasattr(os, "pwrite")
"""Elsewhere a file has one position, which a reader and a writer would take from each other."""


class SpillFile:
    """Bytes on disk, read and written at any place. Gone with its last user, who may be a reader of the past."""

    def __init__(self, path: Path) -> None:
        """Make the file and take its name away; raises OSError."""
        self.fd: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # it could not be made
            os.close(self.fd)

    def write(self, place: int, data: bytes | bytearray) -> None:
        """Write all of it; raises OSError."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self.fd, rest, place)
            rest, place = rest[written:], place + written

    def read(self, place: int, count: int) -> bytes:
        """Return so many bytes, or as many as there are; raises OSError."""
        return os.pread(self.fd, max(0, count), place)


class SpillFolder:
    """Where they are made."""

    def __init__(self, folder: Path, shortage: Callable[[], str]) -> None:
        """Make the folder and empty it; raises OSError. `shortage` says why the disk has no room, if it has none."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()
        self._folder = folder
        self._shortage = shortage

    def new_file(self) -> SpillFile:
        """Return an empty file; raises OSError, also when the disk is too full for long output."""
        if shortage := self._shortage():
            raise OSError(shortage)
        return SpillFile(self._folder / secrets.token_hex(8))
