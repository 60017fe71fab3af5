"""Backs a database up while a dispatcher works on it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from octaskly_site import database_copy
from octaskly_site.database_copy import SIDE_FILES, Contents, CopyRefused, side_file
from octaskly_site.secret_key import SECRET_FILE
from octaskly_site.staged_secret import STAGED_FILE


def back_up(database: Path, target: Path, *, replaces: bool) -> Contents:
    """Write a checked copy of the database to the target and return what it holds; raises CopyRefused.

    Nothing stands at the target before the copy is whole. `replaces` allows a file to stand there already.
    """
    if not database.is_file():
        raise CopyRefused(f"there is no database {database}")
    database = database.resolve()
    target = _checked_target(database, target, replaces=replaces)
    try:
        with database_copy.draft_for(target) as draft:
            with closing(database_copy.open_live(database)) as source:
                database_copy.copy(source, draft)
            try:
                contents = database_copy.check(draft)
            except CopyRefused as error:
                raise CopyRefused(f"no backup made of {database}: {error}") from error
            database_copy.put_in_place(draft, target)
            return contents
    except sqlite3.Error as error:
        raise CopyRefused(f"cannot copy {database} to {target}: {error}") from error
    except OSError as error:
        raise CopyRefused(f"cannot write {target}: {error.strerror or error}") from error


def _checked_target(database: Path, target: Path, *, replaces: bool) -> Path:
    # The file behind a link is what would be written.
    target = target.expanduser().resolve()
    if target.is_dir():
        raise CopyRefused(f"{target} is a folder; name the file to write")
    if not target.parent.is_dir():
        raise CopyRefused(f"there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise CopyRefused(f"the folder {target.parent} cannot be written")
    if target.exists() and target.samefile(database):
        raise CopyRefused(f"{target} is the database itself")
    for beside in (side_file(target, suffix) for suffix in SIDE_FILES):
        if beside.exists():
            # Somebody works on it, or has died over it: SQLite would read what lies there into our copy.
            raise CopyRefused(f"{target} is a database in use: {beside} lies beside it")
    taken = {side_file(database, suffix) for suffix in (*SIDE_FILES, ".lock")} | {
        database.parent / SECRET_FILE,
        database.parent / STAGED_FILE,
    }
    if target in taken:
        raise CopyRefused(f"{target} is a name that the dispatcher itself uses")
    if not target.exists():
        return target
    if not replaces:
        raise CopyRefused(f"{target} exists already; --force replaces it")
    if not _is_database_file(target):
        # A slip of the hand must not cost a secret key or a lock.
        raise CopyRefused(f"{target} is no backup and is not replaced")
    return target


def _is_database_file(path: Path) -> bool:
    magic = b"SQLite format 3\0"
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(magic)) in {magic, b""}
    except OSError:
        return False
