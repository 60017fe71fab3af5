"""A new secret key on its way into `secret.key`: it lies beside it until the database opens with it.

The database is what decides. Whenever a program dies, one of the two files opens all of it, and the next one to start
finds which.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from audit_app.durable import create_file, sync_folder
from octaskly_site.secret_key import SECRET_FILE, derive_keys, read_secret
from octaskly_wire import identity
from octaskly_wire.errors import BadProof

STAGED_FILE: Final = f"{SECRET_FILE}.new"


def stage(folder: Path, secret: str) -> None:
    """Write the new secret key beside the present one, on the disk when this returns; raises OSError."""
    path = folder / STAGED_FILE
    path.unlink(missing_ok=True)
    create_file(path, secret.encode() + b"\n")
    sync_folder(folder)


def put_in_place(folder: Path) -> None:
    """Give the staged secret key its name, over the one before; raises OSError."""
    (folder / STAGED_FILE).replace(folder / SECRET_FILE)
    sync_folder(folder)


def secret_that_opens(database: Path, present: str) -> str:
    """Return the staged secret key if the database opens with it, else the present one. Changes nothing."""
    path = database.parent / STAGED_FILE
    if not path.exists():
        return present
    staged = read_secret(path)
    return staged if opens(database, staged) else present


def settle(database: Path) -> None:
    """Finish what a program left that died amid a change of keys; call it with the database's lock. Raises OSError."""
    path, present = database.parent / STAGED_FILE, database.parent / SECRET_FILE
    if not path.exists():
        return
    if opens(database, read_secret(path)):
        put_in_place(database.parent)
    elif present.exists() and opens(database, read_secret(present)):
        # Only then: it may be the key of a database that was carried away.
        path.unlink()
        sync_folder(database.parent)


def opens(database: Path, secret: str) -> bool:
    """Return whether the database's keys are wrapped with this secret key."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=10)) as connection:
            row = connection.execute("SELECT key_wrapped FROM certificate_authorities ORDER BY id LIMIT 1").fetchone()
    except sqlite3.Error:
        return False
    try:
        return row is not None and bool(identity.unwrap_key(bytes(row[0]), derive_keys(secret).ca_wrapping))
    except BadProof:
        return False
