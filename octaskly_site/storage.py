"""Whether the database can be written: room on its disk, and the word of the engine's writer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from dispatcher.shell.beat import until_next_beat
from octaskly_site.env import ConfigurationError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
PATIENCE_MS = 1000
"""How long the end waits for others who are at the database."""
MEGABYTE = 1 << 20


class Storage:
    """Decides between normal and read-only mode. Looks at the disk once a second, on a thread of the pool."""

    def __init__(self, database: Path, reserve_mb: float, writer_is_healthy: Callable[[], bool]) -> None:
        self._folder = database.parent
        self._reserve = int(reserve_mb * MEGABYTE)
        self._writer_is_healthy = writer_is_healthy
        self._free: int | None = None
        self._was_read_only = False
        self._keeper = _keep_open(database)

    @property
    def read_only_reason(self) -> str | None:
        """Return in plain words why nothing can be stored now; None when it can. Cheap, from any thread."""
        free = self._free
        if free is not None and free < self._reserve:
            return (
                f"the disk of the database is full ({free // MEGABYTE} MB are free, "
                f"{self._reserve // MEGABYTE} MB are kept free)"
            )
        if not self._writer_is_healthy():
            return "the database cannot be written, most likely because its disk is full"
        return None

    def look(self) -> None:
        """Look at the disk now, and log one line if the mode has changed."""
        if self._reserve:
            try:
                self._free = shutil.disk_usage(self._folder).free
            except OSError:  # An unplugged disk has no room to tell of; the writer notices it.
                self._free = None
        reason = self.read_only_reason
        if (reason is not None) == self._was_read_only:
            return
        self._was_read_only = reason is not None
        if reason is not None:
            logger.error(
                "Read-only until there is room: %s",
                reason,
                extra={"event": "read_only_began", "detail": reason},
            )
        else:
            logger.warning(
                "There is room again: requests that write are taken again",
                extra={"event": "read_only_ended"},
            )

    async def watch(self) -> None:
        """Look once a second until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            # A disk that hangs holds up a thread of the pool, not the loop.
            await loop.run_in_executor(None, self.look)
            await asyncio.sleep(until_next_beat(LOOK_EVERY_S, loop.time()))

    def close(self) -> None:
        """Let go of the database, with all that was committed in its one file: threads end without closing theirs."""
        with contextlib.suppress(sqlite3.Error):  # The next start finds the rest beside it.
            self._keeper.execute(f"PRAGMA busy_timeout={PATIENCE_MS}").fetchone()
            self._keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._keeper.close()


def _keep_open(database: Path) -> sqlite3.Connection:
    """Return a connection that keeps the database's -wal and -shm files in being.

    SQLite deletes them with the last connection and makes them anew with the next one, for which a full disk has
    no room: reading would end as soon as everybody had looked away for a moment.
    """
    try:
        keeper = sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, check_same_thread=False)
        keeper.execute("PRAGMA journal_mode=WAL").fetchone()
        keeper.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise ConfigurationError(f"--db-path: cannot use {database}: {error}") from error
    return keeper
