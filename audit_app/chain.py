"""The chain of audit rows: each row's hash is an HMAC over it and the row before, with keys that go one way. Pure.

Every 1000 rows the key becomes a digest of itself. Who takes the present key cannot go back to an earlier one, so that
nobody can rewrite what was written with it. The first key leads to all, and verifies all.

    hash = hex(HMAC-SHA256(key, MessagePack([id, timestamp, event_type, actor, worker_id, task_id, details, previous_hash])))
    next key = HMAC-SHA256(key, "octaskly audit ratchet v1")

Texts are hashed as they stand in the table. Rows from before the ratchet have a hash over JSON, and one constant key.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from json import JSONEncoder
from typing import Any, Final

import msgspec

GENESIS_HASH: Final = "0" * 64
ROWS_A_KEY: Final = 1000
KEY_BYTES: Final = 32
COLUMNS: Final = ("id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details", "previous_hash", "hash")

Row = tuple[Any, ...]
"""The columns of a row, as they stand in the table."""

encoded: Final = msgspec.msgpack.Encoder().encode
_legacy_encoded: Final = JSONEncoder(separators=(",", ":")).encode
_RATCHET: Final = b"octaskly audit ratchet v1"
_SECOND_CHARACTERS: Final = 19


def next_key(key: bytes) -> bytes:
    """Return the key that follows; there is no way back."""
    return hmac.digest(key, _RATCHET, "sha256")


def legacy_row_hash(key: bytes, hashed: Row) -> str:
    """Return the hash of a row from before the ratchet; raises ValueError or TypeError when it can be no such row."""
    row_id, stored_time, *rest = hashed
    text = _legacy_encoded([row_id, _legacy_time(stored_time), *rest])
    return hmac.digest(key, text.encode(), "sha256").hex()


def _legacy_time(stored: str) -> str:
    fraction = stored[_SECOND_CHARACTERS:] or ".000000"
    if stored[10:11] != " " or len(fraction) != len(".000000"):
        raise ValueError("no time")
    return f"{stored[:10]}T{stored[11:_SECOND_CHARACTERS]}{fraction}+00:00"


@dataclass(frozen=True, slots=True, repr=False)
class Origin:
    """Where the keys begin: what verifies every row."""

    first_id: int
    """The first row with a key of the ratchet."""
    key: bytes
    legacy_key: bytes
    """Of the rows before; empty where there are none."""
    rows_a_key: int = ROWS_A_KEY

    def key_at(self, index: int) -> bytes:
        """Return the key after so many turns."""
        key = self.key
        for _ in range(index):
            key = next_key(key)
        return key

    def index_of(self, row_id: int) -> int:
        """Return how many turns come before this row's key."""
        return (row_id - self.first_id) // self.rows_a_key


@dataclass(frozen=True, slots=True, repr=False)
class End:
    """The end of the trail: the last row, and the key that goes on from there."""

    first_id: int
    key_index: int
    key: bytes
    last_id: int
    last_hash: str
    rows_a_key: int = ROWS_A_KEY

    def extended(self, bodies: Iterable[Row], after_id: int = 0) -> tuple[list[Row], End]:
        """Return the rows of these bodies, which are without id and hashes, and the end behind them.

        They stand behind `after_id` too: a row that somebody else put at the end is left where it is, to be found.
        """
        key, key_index, row_id, last_hash = self.key, self.key_index, max(self.last_id, after_id), self.last_hash
        turn_id = self.first_id + (key_index + 1) * self.rows_a_key
        # What the key alone takes is done once, for as long as it is the same one.
        keyed = hmac.new(key, digestmod="sha256")
        rows = []
        for body in bodies:
            row_id += 1
            while row_id >= turn_id:
                key, key_index, turn_id = next_key(key), key_index + 1, turn_id + self.rows_a_key
                keyed = hmac.new(key, digestmod="sha256")
            hashed = (row_id, *body, last_hash)
            row = keyed.copy()
            row.update(encoded(hashed))
            last_hash = row.hexdigest()
            rows.append((*hashed, last_hash))
        return rows, End(self.first_id, key_index, key, row_id, last_hash, self.rows_a_key)


def begun(
    key: bytes, last_id: int, last_hash: str, legacy_key: bytes, rows_a_key: int = ROWS_A_KEY
) -> tuple[Origin, End]:
    """Return origin and end of a trail that goes on behind this row with its first ratcheted key."""
    origin = Origin(last_id + 1, key, legacy_key if last_id else b"", rows_a_key)
    return origin, End(last_id + 1, 0, key, last_id, last_hash, rows_a_key)
