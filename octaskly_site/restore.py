"""Puts a backup in the place of the database. At every step a crash leaves the old or the new one there, whole."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit_app.durable import sync_folder
from audit_app.seal import WrongSeal
from audit_app.trail import AuditEvent, append_offline
from octaskly_site import database_copy
from octaskly_site.database_copy import SIDE_FILES, Contents, CopyRefused, side_file
from octaskly_site.database_lock import DatabaseLock
from octaskly_wire import identity
from octaskly_wire.errors import BadProof

LOCK_TIMEOUT_S = 2.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_GRAVESTONE = b"This database has been replaced; open it again.".ljust(100)
"""As long as SQLite's header."""


class WrongKey(CopyRefused):
    """The present secret key does not open the backup's certificate authority."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What this installation can open: the key derived from its secret, the migrations that its code knows."""

    wrapping_key: bytes
    migrations: Collection[tuple[str, str]]
    sealing_key: bytes = b""
    """Of the audit trail's keys; without it the trail does not tell of the restore."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What stands there now, and where the one before is kept."""

    contents: Contents
    former: Path | None


def restore(backup: Path, database: Path, opening: Opening, *, replaces: bool, now: datetime) -> Restored:
    """Put a copy of the backup in the database's place.

    Raises CopyRefused, or ConfigurationError while a dispatcher holds the lock; then nothing has changed.
    `replaces` allows a database to stand there already, which is kept under another name.
    """
    backup = _examine(backup, database, opening)
    with DatabaseLock(database):
        database = database.resolve()
        if database.exists() and not replaces:
            raise CopyRefused(f"there is a database {database} already; --force puts it aside")
        former = database.with_name(f"{database.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
        if former.exists():
            raise CopyRefused(f"{former} exists already; try again in a second")
        try:
            with database_copy.draft_for(database) as draft:
                with closing(database_copy.open_still(backup)) as source:
                    database_copy.copy(source, draft)
                try:
                    contents = database_copy.check(draft)
                except CopyRefused as error:
                    raise CopyRefused(f"{backup}: {error}") from error
                _record(draft, backup, opening.sealing_key, now)
                is_kept = _replace(draft, database, former)
        except sqlite3.Error as error:
            raise CopyRefused(f"cannot copy {backup} to {database}: {error}") from error
        except OSError as error:
            raise CopyRefused(f"cannot write in {database.parent}: {error.strerror or error}") from error
        return Restored(contents, former if is_kept else None)


def _examine(backup: Path, database: Path, opening: Opening) -> Path:
    """Return the backup's path once it is known to be one that would open here; changes nothing anywhere."""
    backup = backup.expanduser().resolve()
    if not backup.is_file():
        raise CopyRefused(f"{backup} is {'not a file' if backup.exists() else 'not there'}")
    if database.exists() and backup.samefile(database):
        raise CopyRefused(f"{backup} is the database itself")
    try:
        with closing(database_copy.open_still(backup)) as source:
            database_copy.check_tables(source)
            applied = set(source.execute("SELECT app, name FROM django_migrations"))
            ca_key = _wrapped_ca_key(source)
    except CopyRefused as error:
        raise CopyRefused(f"{backup}: {error}") from error
    except sqlite3.Error as error:
        raise CopyRefused(f"{backup} is no usable database: {error}") from error
    if unknown := sorted(applied - set(opening.migrations)):
        app, name = unknown[0]
        raise CopyRefused(f"{backup} is from a newer version of Octaskly: this one does not know {app}.{name}")
    if ca_key is not None:
        try:
            identity.unwrap_key(ca_key, opening.wrapping_key)
        except BadProof:
            raise WrongKey(str(backup)) from None
    return backup


def _wrapped_ca_key(source: sqlite3.Connection) -> bytes | None:
    """Return the wrapped key of a CA; None in a database that was never started."""
    tables = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "certificate_authorities" in tables:
        row = source.execute("SELECT key_wrapped FROM certificate_authorities ORDER BY id LIMIT 1").fetchone()
    else:  # Of a version before a cluster could have two of them.
        row = source.execute("SELECT ca_key_wrapped FROM cluster").fetchone()
    return None if row is None else bytes(row[0])


def _record(draft: Path, backup: Path, sealing_key: bytes, now: datetime) -> None:
    """Have the restored trail tell of it, before it is anywhere: that explains why later rows are gone.

    A backup from before the trail's keys has nothing to write it with.
    """
    with closing(sqlite3.connect(draft, isolation_level=None)) as database:
        has_keys = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_keys'").fetchone()
        if not (sealing_key and has_keys):
            return
        [last_row] = database.execute("SELECT coalesce(max(id), 0) FROM audit_log").fetchone()
        event = AuditEvent("database_restored", "operator", details={"backup": backup.name, "row": last_row})
        database.execute("BEGIN")
        try:
            append_offline(database, sealing_key, event, now)
        except WrongSeal as error:
            raise CopyRefused(f"{backup}: {error}") from error
        database.execute("COMMIT")
    database_copy.flush(draft)


def _replace(draft: Path, database: Path, former: Path) -> bool:
    """Put the draft in place; return whether something stood there, which is then kept as `former`."""
    leftovers = [path for suffix in SIDE_FILES if (path := side_file(database, suffix)).exists()]
    if not database.exists():
        with _without_signals():
            # A WAL without its database: SQLite would read it into the new one.
            _set_aside(database, former)
            database_copy.put_in_place(draft, database)
        return bool(leftovers)
    with ExitStack() as stack:
        try:
            old = stack.enter_context(closing(_open_alone(database)))
            kept = stack.enter_context(database_copy.draft_for(former))
            database_copy.copy(old, kept)
            # The old one's WAL goes into it and is gone; until the draft gets its name the old one is whole alone.
            old.execute("PRAGMA journal_mode=DELETE").fetchone()
            old.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if _primary_code(error) not in _DAMAGED:
                raise
            old = None
        with _without_signals():
            if old is None:
                # What cannot be read cannot be copied either: the files themselves are kept, as they are.
                stack.close()
                _set_aside(database, former)
                database_copy.put_in_place(draft, database)
            else:
                database_copy.put_in_place(kept, former)
                _swap(old, draft, database)
    return True


def _open_alone(database: Path) -> sqlite3.Connection:
    """Open the old database with a lock that nobody else's connection can stand beside, reading or writing."""
    old = database_copy.open_live(database)
    try:
        old.execute(f"PRAGMA busy_timeout={int(LOCK_TIMEOUT_S * 1000)}")
        # Before the first access: then SQLite shares no memory with others, and wants the file for itself.
        old.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
        old.execute("BEGIN EXCLUSIVE")
        old.execute("COMMIT")
    except sqlite3.OperationalError as error:
        old.close()
        if _primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise CopyRefused(f"another program has {database} open; end it first") from error
        raise
    except sqlite3.Error:
        old.close()
        raise
    return old


def _swap(old: sqlite3.Connection, draft: Path, database: Path) -> None:
    """Replace a database that `old` holds locked, and that has no WAL any more.

    A program that came meanwhile has opened the old file and waits for our lock. It must not begin to work on it:
    SQLite finds the WAL by name, so that it would share the new database's WAL with pages of the old one. So the
    old file, which has no name any more, gets a header that no SQLite reads before the lock is gone.
    """
    if os.name == "nt":
        old.close()  # An open file cannot be replaced there, so nobody waits for it either.
    _remove_side_files(database)
    # On disk before the new name is: the other way round a power cut could join the old WAL to the new database.
    sync_folder(database.parent)
    if os.name == "nt":
        database_copy.put_in_place(draft, database)
        return
    # Closing any descriptor of a file drops all of a process's locks on it, so this one is closed last.
    nameless = os.open(database, os.O_WRONLY)
    try:
        database_copy.put_in_place(draft, database)
        if os.fstat(nameless).st_nlink == 0:
            os.pwrite(nameless, _GRAVESTONE, 0)
        old.close()
    finally:
        os.close(nameless)


def _set_aside(database: Path, former: Path) -> None:
    """Give a database that cannot be opened, and what belongs to it, the former one's names."""
    for suffix in ("", "-wal", "-journal"):
        path = side_file(database, suffix)
        if path.exists():
            path.rename(side_file(former, suffix))
    _remove_side_files(database)
    sync_folder(database.parent)


def _remove_side_files(database: Path) -> None:
    for suffix in SIDE_FILES:
        side_file(database, suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Let Ctrl-C wait for the few milliseconds of the swap, so that its message tells the truth."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's code without its extension; 0 where the error is Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
