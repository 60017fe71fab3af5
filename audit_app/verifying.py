"""Inspects the trail of this database: reads one snapshot of it, and gives inspection.py what there is to compare."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection

from audit_app import checkpoints, keys
from audit_app.chain import GENESIS_HASH, KEY_BYTES, Origin, Row, begun
from audit_app.inspection import Evidence, Report, Trail, inspect
from audit_app.models import AuditTombstone
from audit_app.seal import WrongSeal
from audit_app.signed import HexDigest, RowId, Tombstone

_BATCH_ROWS: Final = 2000
# As they are stored: a column by itself would be read as its declared type, a time with an object each.
_ROWS: Final = (
    "SELECT id, +timestamp, +event_type, +actor, +worker_id, +task_id, +details, +previous_hash, +hash"
    " FROM audit_log WHERE {} ORDER BY id"
)


class BadKeyFile(Exception):
    """The file holds no key of a trail; the text names it."""


class _KeyFile(msgspec.Struct, frozen=True, tag="octaskly-audit-key-v1", tag_field="kind"):
    """What an exported file holds; keys are hex."""

    first_id: RowId
    key: HexDigest
    legacy_key: str
    rows_a_key: RowId
    public_key: HexDigest


class Key:
    """What verifies a trail, from the database or from an exported file."""

    def __init__(self, origin: Origin, public_key: bytes, *, is_from_file: bool) -> None:
        self.origin = origin
        self.public_key = public_key
        self.is_from_file = is_from_file

    def text(self) -> str:
        """Return what an exported file holds."""
        begun_at = self.origin
        told = _KeyFile(
            begun_at.first_id,
            begun_at.key.hex(),
            begun_at.legacy_key.hex(),
            begun_at.rows_a_key,
            self.public_key.hex(),
        )
        return msgspec.json.format(msgspec.json.encode(told)).decode() + "\n"

    @classmethod
    def of_file(cls, path: Path) -> Key:
        """Read an exported file; raises BadKeyFile."""
        try:
            told = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
            key, legacy_key, public_key = map(bytes.fromhex, (told.key, told.legacy_key, told.public_key))
        except OSError as error:
            raise BadKeyFile(f"{path}: {error.strerror or error}") from None
        except (msgspec.MsgspecError, ValueError):
            raise BadKeyFile(f"{path} holds no key that auditkey exported") from None
        return cls(Origin(told.first_id, key, legacy_key, told.rows_a_key), public_key, is_from_file=True)


def key_here() -> Key | None:
    """Return the key that the database holds, None where nothing was ever recorded; raises KeyIsElsewhere, WrongSeal."""
    origin, signing = keys.origin(), keys.signing_key()
    if origin is None or signing is None:
        return None
    return Key(origin, signing.public_key().public_bytes_raw(), is_from_file=False)


def verify(key: Key | None = None, checkpoint_file: Path | None = None, witness_files: Sequence[Path] = ()) -> Report:
    """Inspect the whole trail, in one snapshot, while others may go on writing.

    Raises KeyIsElsewhere when no key is given and the database has none, WrongSeal when its keys do not open.
    """
    file = checkpoint_file or checkpoints.default_file()
    witnesses = [_evidence(path) for path in witness_files]
    # Before the snapshot: checkpoints that are taken while rows are read must not seem to be beyond the end.
    own = _evidence(file) if checkpoint_file or file.exists() else None
    with _snapshot() as database:
        used = key or key_here() or _legacy_key()
        end = None
        if not used.is_from_file:
            end = keys.present_end()
        else:
            with contextlib.suppress(WrongSeal):
                end = keys.present_end()
        trail = Trail(rows(database), [_plain(stone) for stone in AuditTombstone.objects.order_by("first_id")], end)
        report = inspect(trail, used.origin, used.public_key, own, witnesses)
    if end is None and used.is_from_file:
        report.notes.append("the trail's sealed end was not compared: that takes the secret key")
    return report


def rows(database: sqlite3.Connection, condition: str = "1", parameters: Sequence[Any] = ()) -> Iterator[list[Row]]:
    """Yield rows as they are stored, in batches; one that cannot be read comes as a row of its id alone."""
    cursor = database.execute(_ROWS.format(condition), parameters)
    while True:
        try:
            batch = cursor.fetchmany(_BATCH_ROWS)
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
            yield from _one_by_one(database, condition, parameters)
            return
        if not batch:
            return
        yield batch


def _one_by_one(database: sqlite3.Connection, condition: str, parameters: Sequence[Any]) -> Iterator[list[Row]]:
    """Read again, and say where the text is that is none."""
    ids = f"SELECT id FROM audit_log WHERE {condition} ORDER BY id"  # noqa: S608 - the caller's constant
    for [row_id] in database.execute(ids, parameters).fetchall():
        try:
            yield database.execute(_ROWS.format("id = ?"), [row_id]).fetchall()
        except sqlite3.OperationalError:
            yield [(row_id, *[b""] * 8)]


@contextlib.contextmanager
def _snapshot() -> Iterator[sqlite3.Connection]:
    """Give the connection below Django's, in a transaction that only reads: an atomic block would keep writers out."""
    connection.ensure_connection()
    database: sqlite3.Connection = connection.connection
    if connection.in_atomic_block:
        yield database
        return
    database.execute("BEGIN")
    try:
        yield database
    finally:
        database.execute("ROLLBACK")


def _legacy_key() -> Key:
    """Return the key of a database whose trail has no keys of its own yet."""
    last_id = connection.connection.execute("SELECT max(id) FROM audit_log").fetchone()[0] or 0
    origin, _ = begun(bytes(KEY_BYTES), last_id, GENESIS_HASH, settings.OCTASKLY_AUDIT_KEY)
    return Key(origin, bytes(KEY_BYTES), is_from_file=False)


def _evidence(path: Path) -> Evidence:
    return Evidence(path.name, checkpoints.read(path))


def _plain(stone: AuditTombstone) -> Tombstone:
    return Tombstone(
        stone.first_id, stone.last_id, stone.row_count, stone.head, stone.removed_by, stone.removed_at, stone.signature
    )
