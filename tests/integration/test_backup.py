"""Backup of real files: consistent while others write, whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from octaskly_site import database_copy
from octaskly_site.backup import back_up
from octaskly_site.database_copy import CopyRefused
from tests.support.small_database import damage, make_database, names, tasks_in


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of three tasks in a folder of its own."""
    return make_database(tmp_path / "data" / "octaskly.db")


def test_a_backup_is_one_closed_file_that_opens_alone(tmp_path: Path, database: Path) -> None:
    """Mode 0600, no WAL wanted, nothing beside it, and the counts of what it holds."""
    target = tmp_path / "out" / "copy.db"
    target.parent.mkdir()
    contents = back_up(database, target, replaces=False)
    assert (contents.size, contents.tasks) == (target.stat().st_size, 3)
    assert names(target.parent) == {"copy.db"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert tasks_in(target) == 3


def test_a_backup_has_what_only_the_wal_has(tmp_path: Path, database: Path) -> None:
    """What is committed and not yet moved from the WAL into the file is in the copy; what is not committed is not."""
    with (
        closing(sqlite3.connect(database, isolation_level=None)) as writer,
        closing(sqlite3.connect(database, isolation_level=None)) as another,
    ):
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO tasks VALUES (50, 'in the wal')")
        another.execute("BEGIN IMMEDIATE")
        another.execute("INSERT INTO tasks VALUES (51, 'not committed')")
        back_up(database, tmp_path / "copy.db", replaces=False)
        another.execute("ROLLBACK")
    assert tasks_in(tmp_path / "copy.db") == 4


def test_a_backup_under_steady_writing_ends_and_is_one_moment(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are always written together are together in the copy, and so is everything before them."""
    monkeypatch.setattr(database_copy, "PAGES_A_STEP", 4)  # Hundreds of steps, between which others write.
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE pairs (number INTEGER, side TEXT, filler BLOB)")
        rows = [(number, side, os.urandom(2000)) for number in range(1000) for side in ("left", "right")]
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO pairs VALUES (?, ?, ?)", rows)
        writer.execute("COMMIT")
    committed = [1000]
    done = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as mine:
            mine.execute("PRAGMA synchronous=OFF")
            while not done.is_set():
                mine.execute("BEGIN IMMEDIATE")
                for side in ("left", "right"):
                    mine.execute("INSERT INTO pairs VALUES (?, ?, ?)", (committed[0], side, bytes(500)))
                mine.execute("COMMIT")
                committed[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            before = committed[0]
            back_up(database, tmp_path / f"copy-{number}.db", replaces=False)
            assert committed[0] > before  # Nobody had to wait for the backup.
            with closing(sqlite3.connect(tmp_path / f"copy-{number}.db")) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                [(lefts, rights, last)] = copy.execute(
                    "SELECT sum(side = 'left'), sum(side = 'right'), max(number) FROM pairs"
                )
                assert lefts == rights == last + 1
                assert last + 1 >= before
    finally:
        done.set()
        thread.join()


def test_an_older_backup_stays_unless_it_may_be_replaced(tmp_path: Path, database: Path) -> None:
    """A name that is taken is refused; with leave, the new copy takes it."""
    target = make_database(tmp_path / "out" / "copy.db", tasks=1)
    with pytest.raises(CopyRefused, match="exists already"):
        back_up(database, target, replaces=False)
    assert tasks_in(target) == 1
    back_up(database, target, replaces=True)
    assert tasks_in(target) == 3
    assert names(target.parent) == {"copy.db"}


def test_a_backup_never_lands_on_what_is_no_backup(tmp_path: Path, database: Path) -> None:
    """The database itself, its side files, the key, the lock, folders and devices are refused, --force or not."""
    key = database.parent / "secret.key"
    key.write_text("the secret key of a test")
    link = tmp_path / "link.db"
    link.symlink_to(database)
    beside = [Path(f"{database}{suffix}") for suffix in ("-wal", "-shm", "-journal", ".lock")]
    wrong = [database, link, key, *beside, tmp_path, tmp_path / "none" / "copy.db", Path("/dev/null")]
    for target in wrong:
        with pytest.raises(CopyRefused) as refusal:
            back_up(database, target, replaces=True)
        assert "\n" not in str(refusal.value)
    assert key.read_text() == "the secret key of a test"
    assert tasks_in(database) == 3
    assert names(tmp_path) == {"data", "link.db"}
    beside[-1].touch()  # As a dispatcher leaves it.
    with pytest.raises(CopyRefused, match="itself uses"):
        back_up(database, beside[-1], replaces=True)
    beside[-1].unlink()
    assert names(database.parent) == {"octaskly.db", "secret.key"}


def test_a_backup_never_replaces_a_database_in_use(tmp_path: Path, database: Path) -> None:
    """Nor takes a name beside which a WAL lies: SQLite would read that into the copy."""
    other = make_database(tmp_path / "other.db", tasks=1)
    with closing(sqlite3.connect(other)) as user:
        user.execute("SELECT count(*) FROM tasks").fetchone()
        with pytest.raises(CopyRefused, match="in use"):
            back_up(database, other, replaces=True)
    assert tasks_in(other) == 1
    (tmp_path / "gone.db-wal").write_bytes(b"of a database that is gone")
    with pytest.raises(CopyRefused, match=r"gone\.db-wal"):
        back_up(database, tmp_path / "gone.db", replaces=False)


def test_backup_follows_a_link_to_its_folder_and_names_with_odd_letters(tmp_path: Path, database: Path) -> None:
    """Names are names, whatever they mean in an address."""
    (tmp_path / "real #1?").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "real #1?")
    back_up(database, tmp_path / "way" / "a%20b #?.db", replaces=False)
    assert names(tmp_path / "real #1?") == {"a%20b #?.db"}


@pytest.mark.parametrize("content", [b"", b"Dear all, this is no database. " * 200])
def test_what_is_no_database_of_ours_is_not_backed_up(tmp_path: Path, content: bytes) -> None:
    """An empty file or a letter leaves no backup behind that would only be found out when it is needed."""
    path = tmp_path / "letter.db"
    path.write_bytes(content)
    with pytest.raises(CopyRefused):
        back_up(path, tmp_path / "copy.db", replaces=False)
    with pytest.raises(CopyRefused, match="no database"):
        back_up(tmp_path / "none.db", tmp_path / "copy.db", replaces=False)
    assert names(tmp_path) == {"letter.db"}
    assert path.read_bytes() == content


def test_a_damaged_database_gives_no_backup(tmp_path: Path, database: Path) -> None:
    """A copy that does not pass the check is not kept, and the one of yesterday stays."""
    target = tmp_path / "copy.db"
    back_up(database, target, replaces=False)
    damage(database)
    with pytest.raises(CopyRefused, match="damaged"):
        back_up(database, target, replaces=True)
    assert tasks_in(target) == 3
    assert names(tmp_path) == {"data", "copy.db"}


@pytest.mark.parametrize("stopped_in", ["copy", "check", "put_in_place"])
def test_a_backup_that_is_stopped_leaves_nothing(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    """Ctrl-C at any point removes the draft."""
    real = getattr(database_copy, stopped_in)

    def stop(*arguments: object) -> None:
        if stopped_in == "copy":
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(database_copy, stopped_in, stop)
    with pytest.raises(KeyboardInterrupt):
        back_up(database, tmp_path / "copy.db", replaces=False)
    assert names(tmp_path) == {"data"}
