"""One dispatcher a database: a locked file beside it, which the kernel frees with the process, however that ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from octaskly_site.env import ConfigurationError

_HELD_BY_ANOTHER = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}


class DatabaseInUse(ConfigurationError):
    """Another process holds the lock."""


class DatabaseLock:
    """Holds `<database>.lock`. The file stays when the lock is gone: to delete it would be a race."""

    def __init__(self, database: Path) -> None:
        """Take the lock, making the folder if need be; raises DatabaseInUse, or ConfigurationError with the path."""
        if database.is_dir():
            raise ConfigurationError(f"--db-path: {database} is a folder, not a file")
        # A link to the database leads to the same lock.
        path = database.resolve()
        path = path.with_name(f"{path.name}.lock")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"--db-path: cannot use {path}: {error.strerror or error}") from error
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            if error.errno in _HELD_BY_ANOTHER:
                raise DatabaseInUse(f"--db-path: {database} is in use by another dispatcher") from None
            raise ConfigurationError(f"--db-path: cannot lock {path}: {error.strerror or error}") from error

    def release(self) -> None:
        """Let the next one in."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
