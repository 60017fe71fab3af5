"""Restore on real files: the old database or the new one, whole, at every moment; nothing thrown away."""

from __future__ import annotations

import itertools
import os
import sqlite3
import stat
import threading
import warnings
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from octaskly_site import database_copy, restore
from octaskly_site.backup import back_up
from octaskly_site.database_copy import CopyRefused
from octaskly_site.database_lock import DatabaseInUse, DatabaseLock
from tests.support.small_database import KEY, KNOWN_MIGRATIONS, damage, make_database, names, tasks_in

OPENING = restore.Opening(KEY, KNOWN_MIGRATIONS)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
DIED = 9
FORMER = "octaskly.db.before-restore-20260304T050607Z"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of three tasks in a folder of its own."""
    return make_database(tmp_path / "data" / "octaskly.db")


@pytest.fixture
def backup(tmp_path: Path, database: Path) -> Path:
    """Its backup, after which two tasks more came."""
    path = tmp_path / "backup.db"
    back_up(database, path, replaces=False)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("INSERT INTO tasks VALUES (100, 'y'), (101, 'y')")
    return path


def put_back(backup: Path, database: Path, *, replaces: bool = True, opening: restore.Opening = OPENING):
    """Restore at a fixed time."""
    return restore.restore(backup, database, opening, replaces=replaces, now=NOW)


def test_restore_into_an_empty_place(tmp_path: Path, backup: Path) -> None:
    """On a new machine: the folder is made, the file is closed to others, the backup is as it was."""
    before = backup.read_bytes()
    there = tmp_path / "new" / "folder" / "octaskly.db"
    done = put_back(backup, there, replaces=False)
    assert (done.contents.tasks, done.former) == (3, None)
    assert tasks_in(there) == 3
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    assert names(there.parent) == {"octaskly.db", "octaskly.db.lock"}
    assert backup.read_bytes() == before
    assert names(tmp_path) == {"data", "backup.db", "new"}


def test_restore_keeps_the_former_database(backup: Path, database: Path) -> None:
    """Only when told to, and then as one file with everything in it."""
    with pytest.raises(CopyRefused, match="--force"):
        put_back(backup, database, replaces=False)
    assert tasks_in(database) == 5
    done = put_back(backup, database)
    assert done.former == database.with_name(FORMER)
    assert tasks_in(database) == 3
    assert tasks_in(done.former) == 5
    assert names(database.parent) == {"octaskly.db", "octaskly.db.lock", FORMER}


def test_restore_takes_a_crashed_databases_wal_along(tmp_path: Path, backup: Path, database: Path) -> None:
    """What was committed only to the WAL goes into the kept file, and never into the new database."""
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO tasks VALUES (200, 'in the wal')")
        crashed = {suffix: Path(f"{database}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm")}
    for suffix, content in crashed.items():
        Path(f"{database}{suffix}").write_bytes(content)
    done = put_back(backup, database)
    assert tasks_in(database) == 3
    assert done.former is not None
    assert tasks_in(done.former) == 6
    assert names(database.parent) == {"octaskly.db", "octaskly.db.lock", FORMER}


def test_restore_is_not_fooled_by_a_wal_without_its_database(backup: Path, database: Path) -> None:
    """A WAL that lies about must not be read into the restored file; it is kept under the former one's name."""
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO tasks VALUES (200, 'in the wal')")
        wal = Path(f"{database}-wal").read_bytes()
    database.unlink()
    Path(f"{database}-wal").write_bytes(wal)
    assert put_back(backup, database, replaces=False).former is not None
    assert tasks_in(database) == 3
    assert names(database.parent) == {"octaskly.db", "octaskly.db.lock", f"{FORMER}-wal"}


def test_restore_replaces_a_damaged_database(backup: Path, database: Path) -> None:
    """That is what backups are for: what cannot be opened is kept as it is."""
    with database.open("r+b") as file:
        file.write(b"no header any more")
    broken = database.read_bytes()
    done = put_back(backup, database)
    assert tasks_in(database) == 3
    assert done.former is not None
    assert done.former.read_bytes() == broken
    assert names(database.parent) == {"octaskly.db", "octaskly.db.lock", FORMER}


def test_restore_waits_for_nobody(backup: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatcher's lock, or any open connection, even one that only reads, is refused."""
    monkeypatch.setattr(restore, "LOCK_TIMEOUT_S", 0.05)
    with DatabaseLock(database), pytest.raises(DatabaseInUse, match="in use"):
        put_back(backup, database)
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("SELECT count(*) FROM tasks").fetchone()
        with pytest.raises(CopyRefused, match="open"):
            put_back(backup, database)
    assert tasks_in(database) == 5
    assert put_back(backup, database).contents.tasks == 3


def test_a_program_that_waited_for_the_lock_cannot_use_the_old_file(
    backup: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the old file while it was locked; its writes must reach neither file."""
    # Opened on this thread, and written to on another.
    waiting = sqlite3.connect(database, timeout=30, isolation_level=None, check_same_thread=False)
    real = database_copy.put_in_place
    outcome: list[object] = []

    def write() -> None:
        try:
            waiting.execute("PRAGMA journal_mode=WAL").fetchone()
            waiting.execute("INSERT INTO tasks VALUES (300, 'lost')")
        except sqlite3.Error as error:
            outcome.append(error)

    started = []

    def put_in_place(draft: Path, target: Path) -> None:
        if target == database:
            started.append(threading.Thread(target=write))
            started[0].start()
        real(draft, target)

    monkeypatch.setattr(database_copy, "put_in_place", put_in_place)
    done = put_back(backup, database)
    started[0].join()
    waiting.close()
    assert isinstance(outcome[0], sqlite3.DatabaseError)
    assert "not a database" in str(outcome[0])
    assert tasks_in(database) == 3
    assert done.former is not None
    assert tasks_in(done.former) == 5
    assert names(database.parent) == {"octaskly.db", "octaskly.db.lock", FORMER}


def test_restore_refuses_what_would_not_open_here(tmp_path: Path, database: Path) -> None:
    """Another cluster's key, a newer version, somebody else's database, damage, no file: nothing is touched."""
    other_key = make_database(tmp_path / "other-key.db", key=bytes(32))
    old_other_key = make_database(tmp_path / "old-other-key.db", key=bytes(32), is_old=True)
    newer = make_database(tmp_path / "newer.db")
    foreign, damaged, letter = (tmp_path / name for name in ("foreign.db", "damaged.db", "letter.db"))
    with closing(sqlite3.connect(newer, isolation_level=None)) as writer:
        writer.execute("INSERT INTO django_migrations VALUES ('tasks_app', '0099_tomorrow')")
    with closing(sqlite3.connect(foreign, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE letters (id INTEGER)")
    damage(make_database(damaged, tasks=5000))
    letter.write_text("Dear all, this is no database. " * 100)
    kept = {path: path.read_bytes() for path in (other_key, newer, foreign, damaged, letter, database)}
    for sealed_elsewhere in (other_key, old_other_key):
        with pytest.raises(restore.WrongKey):
            put_back(sealed_elsewhere, database)
    for path, word in [
        (newer, "0099_tomorrow"),
        (foreign, "no Octaskly database"),
        (damaged, "damaged|malformed"),
        (letter, "not a database"),
        (database, "itself"),
        (tmp_path, "not a file"),
        (tmp_path / "none.db", "not there"),
    ]:
        with pytest.raises(CopyRefused, match=word) as refusal:
            put_back(path, database)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert {path: path.read_bytes() for path in kept} == kept
    assert names(database.parent) <= {"octaskly.db", "octaskly.db.lock"}


def test_restore_killed_at_any_step_leaves_one_whole_database(tmp_path: Path) -> None:
    """A child dies before its n-th change on the disk; whoever opens the database then finds all five tasks or three."""
    backup = make_database(tmp_path / "backup.db")
    seen = []
    for step in itertools.count(1):
        database = make_database(tmp_path / str(step) / "octaskly.db", tasks=5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Of forking beside pytest's own thread.
            child = os.fork()
        if child == 0:
            _die_at(step, backup, database)
        _, code = os.waitpid(child, 0)
        # As the dispatcher opens it.
        with closing(sqlite3.connect(database)) as reader:
            assert reader.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        seen.append(tasks_in(database))
        former = database.with_name(FORMER)
        assert (tasks_in(former) if former.exists() else tasks_in(database)) == 5
        if os.waitstatus_to_exitcode(code) == 0:
            break
        assert os.waitstatus_to_exitcode(code) == DIED
    assert seen == sorted(seen, reverse=True)
    assert len(seen) > 20
    assert set(seen) == {3, 5}


def _die_at(step: int, backup: Path, database: Path) -> None:
    """Restore, and leave without a word before the n-th call that changes or flushes something; never returns."""
    left = [step]

    def mortal(function):
        def call(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)
            return function(*arguments, **keywords)

        return call

    try:
        for name in ("rename", "replace", "unlink", "fsync", "open", "close", "pwrite"):
            setattr(os, name, mortal(getattr(os, name)))
        put_back(backup, database)
    finally:
        os._exit(0 if left[0] > 0 else 1)
