"""The trail's keys in the table `audit_keys`, sealed: begun once, moved on with each row, exported, sealed anew.

All of it happens in transactions that hold the write lock (BEGIN IMMEDIATE), so that several processes write one trail.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import connection, transaction

from audit_app.chain import GENESIS_HASH, KEY_BYTES, End, Origin, begun
from audit_app.models import AuditKeys
from audit_app.seal import seal, unseal

END: Final = "audit end"
ORIGIN: Final = "audit origin"
SIGNING: Final = "audit signing"
_THE_ROW: Final = 1

_encode: Final = msgspec.msgpack.Encoder().encode
T = TypeVar("T", Origin, End)
Blob = bytes | memoryview


class KeyIsElsewhere(Exception):
    """The trail's first key was exported: it is not on this machine any more."""

    def __init__(self, exported_on: str) -> None:
        super().__init__(f"the key of the trail was taken off this machine on {exported_on}; give --key FILE")
        self.exported_on = exported_on


@dataclass(frozen=True, slots=True, repr=False)
class _Moved:
    """The end that this process was the last to seal, so that it need not open it to go on from there."""

    sealing_key: bytes
    sealed: bytes
    end: End


_moved: _Moved | None = None


def open_end(cursor: sqlite3.Cursor) -> tuple[End, int]:
    """Return the trail's end and the highest id in the table; begins the keys where there are none.

    Raises WrongSeal under another secret key. Give it a cursor of the driver's, in the caller's transaction.
    """
    found = cursor.execute("SELECT sealed_end, (SELECT max(id) FROM audit_log) FROM audit_keys").fetchone()
    sealing_key = settings.OCTASKLY_AUDIT_SEALING_KEY
    if found is None:
        end = _begin(sealing_key)
        return end, end.last_id
    sealed, highest_id = found
    moved = _moved
    if moved is not None and (moved.sealed, moved.sealing_key) == (sealed, sealing_key):
        return moved.end, highest_id or 0
    return opened_end(sealing_key, sealed), highest_id or 0


def move_end(cursor: sqlite3.Cursor, end: End) -> None:
    """Store the trail's new end in the caller's transaction. The key before it is overwritten."""
    global _moved  # noqa: PLW0603 - replaced as a whole, and of no use but to whoever finds the same in the table
    sealing_key = settings.OCTASKLY_AUDIT_SEALING_KEY
    sealed = sealed_end(sealing_key, end)
    cursor.execute("UPDATE audit_keys SET sealed_end = ?", [sealed])
    _moved = _Moved(sealing_key, sealed, end)


def sealed_end(sealing_key: bytes, end: End) -> bytes:
    """Return the trail's end as the table holds it."""
    return seal(sealing_key, END, _encode(end))


def opened_end(sealing_key: bytes, sealed: Blob) -> End:
    """Return the trail's end from what the table holds; raises WrongSeal."""
    return _open(sealing_key, END, sealed, End)


def present_end() -> End | None:
    """Return the trail's end, None where nothing was ever recorded; raises WrongSeal."""
    row = AuditKeys.objects.first()
    return None if row is None else opened_end(settings.OCTASKLY_AUDIT_SEALING_KEY, row.sealed_end)


def origin() -> Origin | None:
    """Return where the keys begin, None where there are none yet; raises KeyIsElsewhere, WrongSeal."""
    row = AuditKeys.objects.first()
    if row is None:
        return None
    if not row.sealed_origin:
        raise KeyIsElsewhere(f"{row.exported_at:%Y-%m-%d}" if row.exported_at else "")
    return _open(settings.OCTASKLY_AUDIT_SEALING_KEY, ORIGIN, row.sealed_origin, Origin)


def signing_key() -> Ed25519PrivateKey | None:
    """Return the key of checkpoints and tombstones, None where there is none yet; raises WrongSeal."""
    row = AuditKeys.objects.first()
    if row is None:
        return None
    raw = unseal(settings.OCTASKLY_AUDIT_SEALING_KEY, SIGNING, bytes(row.sealed_signing_key))
    return Ed25519PrivateKey.from_private_bytes(raw)


def forget_origin(now: datetime) -> None:
    """Remove the first key from the database, in the caller's transaction."""
    AuditKeys.objects.update(sealed_origin=b"", exported_at=now)


def reseal(old_sealing_key: bytes, new_sealing_key: bytes) -> int:
    """Seal all keys with a new sealing key, in the caller's transaction; return how many there are.

    Afterwards this process, whose settings hold the old one, cannot write the trail: record what is to be recorded
    before. Raises WrongSeal when the old key is another one. A trail from before the ratchet begins it now, so that
    its constant key, which the old secret gives, is kept.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("keys are sealed anew in the transaction of what asks for it")
    row = AuditKeys.objects.first()
    if row is None:
        _begin(old_sealing_key)
        row = AuditKeys.objects.get()

    def anew(purpose: str, sealed: Blob) -> bytes:
        return seal(new_sealing_key, purpose, unseal(old_sealing_key, purpose, bytes(sealed))) if sealed else b""

    row.sealed_end = anew(END, row.sealed_end)
    row.sealed_origin = anew(ORIGIN, row.sealed_origin)
    row.sealed_signing_key = anew(SIGNING, row.sealed_signing_key)
    row.save()
    return sum(bool(sealed) for sealed in (row.sealed_end, row.sealed_origin, row.sealed_signing_key))


def _begin(sealing_key: bytes) -> End:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1")
        last_id, last_hash = cursor.fetchone() or (0, GENESIS_HASH)
    first_key = secrets.token_bytes(KEY_BYTES)
    begun_origin, end = begun(first_key, last_id, last_hash, settings.OCTASKLY_AUDIT_KEY)
    AuditKeys.objects.create(
        id=_THE_ROW,
        sealed_end=sealed_end(sealing_key, end),
        sealed_origin=seal(sealing_key, ORIGIN, _encode(begun_origin)),
        sealed_signing_key=seal(sealing_key, SIGNING, Ed25519PrivateKey.generate().private_bytes_raw()),
    )
    return end


def _open(sealing_key: bytes, purpose: str, sealed: Blob, kind: type[T]) -> T:
    return msgspec.msgpack.decode(unseal(sealing_key, purpose, bytes(sealed)), type=kind)
