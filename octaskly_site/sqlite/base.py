"""Lets one thread of this process at a time begin a transaction, and the next one as soon as it has ended.

All of them take the database's one write lock (BEGIN IMMEDIATE). SQLite makes whoever finds it taken sleep, for up to a
tenth of a second at a time, however soon it is free again: of eight clients one waited a quarter of a second.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from django.db.backends.sqlite3 import base

_writers: Final = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection."""

    _is_writer = False

    def _start_transaction_under_autocommit(self) -> None:
        # Where others hold on to it for longer than SQLite would wait, let SQLite say so.
        self._is_writer = _writers.acquire(timeout=self.settings_dict["OPTIONS"]["timeout"])
        try:
            mode = self.transaction_mode  # type: ignore[attr-defined]  # the stubs lack it
            self._run(f"BEGIN {mode or 'DEFERRED'}")
        except BaseException:
            self._leave()
            raise

    def _savepoint(self, sid: str) -> None:
        self._run(self.ops.savepoint_create_sql(sid))

    def _savepoint_commit(self, sid: str) -> None:
        self._run(self.ops.savepoint_commit_sql(sid))

    def _run(self, statement: str) -> None:
        """Run a statement of a transaction; Django makes a cursor of several layers for each, in each request that writes."""
        with self.wrap_database_errors:
            self.connection.execute(statement)

    def _commit(self) -> Any:
        result = super()._commit()  # type: ignore[misc]  # the stubs lack it
        self._leave()
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._leave()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._is_writer:
            self._is_writer = False
            _writers.release()
