"""A small database with our tables' names, for backup and restore; and a look into what they made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from octaskly_wire import identity

KEY = bytes(range(32))
KNOWN_MIGRATIONS = {("tasks_app", "0001_initial")}


def make_database(path: Path, *, tasks: int = 3, key: bytes = KEY, is_old: bool = False) -> Path:
    """Make a database with our tables' names, in WAL mode, and leave nothing of the WAL beside it.

    An old one is of a version that knew one CA only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        for table in ("audit_log", "results", "workers"):
            database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, text TEXT)")
        database.execute("CREATE TABLE django_migrations (app TEXT, name TEXT)")
        database.executemany("INSERT INTO django_migrations VALUES (?, ?)", sorted(KNOWN_MIGRATIONS))
        wrapped = identity.wrap_key(identity.new_key(), key)
        if is_old:
            database.execute("CREATE TABLE cluster (ca_key_wrapped BLOB)")
            database.execute("INSERT INTO cluster VALUES (?)", [wrapped])
        else:
            database.execute("CREATE TABLE cluster (cluster_id TEXT)")
            database.execute("CREATE TABLE certificate_authorities (id INTEGER PRIMARY KEY, key_wrapped BLOB)")
            database.execute("INSERT INTO certificate_authorities (key_wrapped) VALUES (?)", [wrapped])
        database.executemany("INSERT INTO tasks VALUES (?, 'x')", [(number,) for number in range(tasks)])
    return path


def tasks_in(path: Path) -> int:
    """Return the number of tasks of a whole database."""
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT count(*) FROM tasks").fetchone()[0]


def names(folder: Path) -> set[str]:
    """Return what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def damage(path: Path) -> None:
    """Write nonsense over every page but the first three."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (size - 3 * 4096))
