"""Remove files of any size without holding the loop up: freeing the blocks of a large one takes long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from pathlib import Path
from typing import Final

from worker_node.shell.durable import UNFINISHED

logger = logging.getLogger(__name__)

LARGE_BYTES: Final = 64 << 20


def remove_file(path: Path) -> None:
    """Take a file's name away now, and what it holds soon after; one that is not there is no matter.

    Call on the loop or where there is none. A crash in between leaves a file whose name begins with a dot.
    """
    try:
        status = path.lstat()
        if not status.st_mode & 0o200:
            path.chmod(0o600)  # Windows removes nothing that is read-only
        if status.st_size < LARGE_BYTES:
            path.unlink()
            return
        doomed = path.with_name(f".{secrets.token_hex(8)}{UNFINISHED}")
        path.rename(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)
        return
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().run_in_executor(None, _unlink, doomed)
        return
    _unlink(doomed)


def is_leftover(name: str) -> bool:
    """Return whether this is a file that was not finished, or was being removed, when a life ended."""
    return name.startswith(".") and name.endswith(UNFINISHED)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)
