"""Backup and restore on real files: consistent while others write, whole or not at all, nothing lost."""

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
from octaskly_wire import identity

KEY = bytes(range(32))
KNOWN = {("tasks_app", "0001_initial")}
OPENING = restore.Opening(KEY, KNOWN)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
DIED = 9
FORMER = "octaskly.db.before-restore-20260304T050607Z"


def make_database(path: Path, *, tasks: int = 3, key: bytes = KEY) -> Path:
    """Make a database with our tables' names, in WAL mode, and leave nothing of the WAL beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        for table in ("audit_log", "results", "workers"):
            database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, text TEXT)")
        database.execute("CREATE TABLE django_migrations (app TEXT, name TEXT)")
        database.executemany("INSERT INTO django_migrations VALUES (?, ?)", sorted(KNOWN))
        database.execute("CREATE TABLE cluster (ca_key_wrapped BLOB)")
        database.execute("INSERT INTO cluster VALUES (?)", [identity.wrap_key(identity.new_key(), key)])
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


# Backup


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


def damage(path: Path) -> None:
    """Write nonsense over every page but the first three."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (size - 3 * 4096))


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


# Restore


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
    waiting = sqlite3.connect(database, timeout=30, isolation_level=None)
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

    # A connection of this thread that writes on another one.
    waiting.close()
    waiting = sqlite3.connect(database, timeout=30, isolation_level=None, check_same_thread=False)
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
    newer = make_database(tmp_path / "newer.db")
    foreign, damaged, letter = (tmp_path / name for name in ("foreign.db", "damaged.db", "letter.db"))
    with closing(sqlite3.connect(newer, isolation_level=None)) as writer:
        writer.execute("INSERT INTO django_migrations VALUES ('tasks_app', '0099_tomorrow')")
    with closing(sqlite3.connect(foreign, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE letters (id INTEGER)")
    damage(make_database(damaged, tasks=5000))
    letter.write_text("Dear all, this is no database. " * 100)
    kept = {path: path.read_bytes() for path in (other_key, newer, foreign, damaged, letter, database)}
    with pytest.raises(restore.WrongKey):
        put_back(other_key, database)
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
