"""What the dispatcher's database is like when it has ended."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

from octaskly_site.storage import Storage


def test_a_database_that_was_let_go_is_one_file(tmp_path):
    """Though a thread has not closed its connection: whoever copies the file has all that was committed."""
    path, copy = tmp_path / "octaskly.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as of_thread:
        of_thread.execute("PRAGMA journal_mode=WAL").fetchone()
        storage = Storage(path, 0, lambda: True)
        with of_thread:
            of_thread.execute("CREATE TABLE kept AS SELECT 1 AS number")
        storage.close()
        shutil.copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as copied:
        assert copied.execute("SELECT number FROM kept").fetchall() == [(1,)]


def test_a_database_that_others_write_is_let_go_all_the_same(tmp_path, monkeypatch):
    """Nothing is lost: what is not in the file yet lies beside it."""
    monkeypatch.setattr("octaskly_site.storage.PATIENCE_MS", 10)
    path = tmp_path / "octaskly.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as of_thread:
        of_thread.execute("PRAGMA journal_mode=WAL").fetchone()
        storage = Storage(path, 0, lambda: True)
        of_thread.execute("BEGIN IMMEDIATE")
        of_thread.execute("CREATE TABLE kept (number)")
        storage.close()
        of_thread.execute("COMMIT")
        assert of_thread.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]
