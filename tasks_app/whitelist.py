"""What the engine reads of the whitelist: plain SQL, since a thousand workers may come back at the same moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from accounts_app.plain_sql import marks, read
from dispatcher.ports import WhitelistEntry
from octaskly_wire.vocabulary import Admission

_SELECT: Final = (
    "SELECT id, public_key_sha256, admission, is_draining, admission_reason, trusted_ca_digests FROM workers"
)
MAX_IDS: Final = 500
"""In one statement."""

Row = tuple[Any, ...]


class Whitelist:
    """Reads it; knows what it has told. Call it from one thread only."""

    def __init__(self) -> None:
        """Begin without having told anything."""
        self._told: set[Row] = set()

    def changed(self) -> list[WhitelistEntry]:
        """Return the entries that are new or other than at the last call."""
        rows = set(read(_SELECT))
        changed, self._told = rows - self._told, rows
        return [_entry(row) for row in changed]

    def of(self, worker_ids: Sequence[str]) -> list[WhitelistEntry]:
        """Return the entries of these workers, as far as there are any."""
        return [
            _entry(row)
            for first in range(0, len(worker_ids), MAX_IDS)
            for row in _rows_of(worker_ids[first : first + MAX_IDS])
        ]


def _rows_of(worker_ids: Sequence[str]) -> list[Row]:
    return read(f"{_SELECT} WHERE id IN ({marks(len(worker_ids))})", worker_ids)


def _entry(row: Row) -> WhitelistEntry:
    worker_id, key, admission, is_draining, reason, trusted = row
    return WhitelistEntry(worker_id, key, Admission(admission), bool(is_draining), reason, tuple(json.loads(trusted)))
