"""Copies a database into a draft beside its target, checks the copy, and puts it in place in one step."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from audit_app.durable import sync_folder

PAGES_A_STEP = 1024
"""Pages between two looks at Ctrl-C; the number has no part in the copy's consistency."""

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and reads into whatever file has the name."""

OUR_TABLES = frozenset({"audit_log", "cluster", "django_migrations", "results", "tasks", "workers"})


class CopyRefused(Exception):
    """A backup or a restore cannot be made; the text is one line that says why and names the file."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checked copy holds."""

    size: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.size / 1_000_000:.1f} MB, {self.tasks} {'task' if self.tasks == 1 else 'tasks'}"


def open_live(database: Path) -> sqlite3.Connection:
    """Open a database that others may be writing to."""
    return sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)


def open_still(path: Path) -> sqlite3.Connection:
    """Open a file to read from it only: nothing is made beside it, unless somebody has it open as a database."""
    is_alone = not any(side_file(path, suffix).exists() for suffix in SIDE_FILES)
    options = "mode=ro&immutable=1" if is_alone else "mode=ro"
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, timeout=30, isolation_level=None)


def side_file(path: Path, suffix: str) -> Path:
    """Return the path of one of SQLite's files beside a database."""
    return path.with_name(path.name + suffix)


@contextlib.contextmanager
def draft_for(target: Path) -> Iterator[Path]:
    """Give an empty file of mode 0600 beside the target; whatever of it is left at the end is removed."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    # Ctrl-C may come at the very moment in which the file is there.
    try:
        try:
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise CopyRefused(f"cannot write in the folder {target.parent}: {error.strerror or error}") from error
        yield draft
    finally:
        for leftover in (draft, *(side_file(draft, suffix) for suffix in SIDE_FILES)):
            leftover.unlink(missing_ok=True)


def copy(source: sqlite3.Connection, draft: Path) -> None:
    """Copy everything that is committed now into the draft: one file that opens alone, on disk when this returns.

    SQLite's backup starts over whenever somebody writes between two of its steps, so under steady writing it would
    never end. Here one read transaction lasts for all steps: with a WAL it sees one moment of the database and
    stops nobody, and the backup has nothing to start over for. Meanwhile the WAL only grows.
    """
    source.execute("BEGIN")
    try:
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(draft, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous=OFF")  # Flushed once, below.
            # Without a callback there is no moment in which Python notices Ctrl-C.
            source.backup(target, pages=PAGES_A_STEP, progress=lambda *_: None)
            # The copied header says WAL, which would want a second file.
            target.execute("PRAGMA journal_mode=DELETE").fetchone()
    finally:
        if source.in_transaction:
            source.execute("ROLLBACK")
    flush(draft)


def check(path: Path) -> Contents:
    """Read a copy through, alone as it stands; raises CopyRefused when it is damaged or not ours."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as database:
            check_tables(database)
            verdicts = [row[0] for row in database.execute("PRAGMA integrity_check(1)")]
            if verdicts != ["ok"]:
                raise CopyRefused(f"it is damaged: {' '.join(str(verdicts[0]).split())}")
            [tasks] = database.execute("SELECT count(*) FROM tasks").fetchone()
    except sqlite3.DatabaseError as error:
        raise CopyRefused(f"it is damaged: {error}") from error
    return Contents(path.stat().st_size, tasks)


def check_tables(database: sqlite3.Connection) -> None:
    """Raise CopyRefused when this is somebody else's database."""
    present = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if missing := sorted(OUR_TABLES - present):
        raise CopyRefused(f"it is no Octaskly database: it has no table {missing[0]}")


def put_in_place(draft: Path, target: Path) -> None:
    """Give a flushed draft its name; after a crash the target is the one before or the new one, whole."""
    draft.replace(target)
    sync_folder(target.parent)


def flush(path: Path) -> None:
    """Return when the file's bytes are on disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
