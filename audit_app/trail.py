"""Writes the audit trail: rows that are chained (chain.py), in the transaction of what they record.

Neither exists without the other. verifying.py checks the trail; witnesses outside of the database keep what it was like.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from json import JSONEncoder
from typing import Any, Final

import msgspec
from django.db import connection, transaction

from accounts_app.many_rows import Insert
from audit_app import keys
from audit_app.chain import COLUMNS

MAX_ACTOR: Final = 150
_INSERT: Final = Insert("audit_log", COLUMNS)
as_json: Final = JSONEncoder(separators=(",", ":"), sort_keys=True).encode
"""Details as a row holds them."""


class AuditEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened. `actor` is a user's name, or `engine`."""

    event_type: str
    actor: str = ""
    worker_id: str = ""
    task_id: str = ""
    details: Mapping[str, Any] | str = "{}"
    """A text is what `as_json` gave: details that many events share are written out once."""

    def body(self, stored_time: str) -> tuple[str, ...]:
        """Return the columns between the id and the hashes; the time is as the table holds it."""
        details = self.details if isinstance(self.details, str) else as_json(self.details)
        return (stored_time, self.event_type, self.actor[:MAX_ACTOR], self.worker_id, self.task_id, details)


def record(*events: AuditEvent, at: datetime | None = None) -> None:
    """Append the events, in order, to the caller's transaction.

    Raises TransactionManagementError outside of a transaction, for the row would survive a roll-back of what it
    speaks of; WrongSeal under another secret key than the trail's.
    """
    if not events:
        return
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("audit rows are written in the transaction they speak of")
    stored_time = stored_time_of(at or datetime.now(UTC))
    # The transaction holds the write lock (BEGIN IMMEDIATE), so nobody else appends meanwhile.
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        end, highest_id = keys.open_end(cursor)
        rows, end = end.extended([event.body(stored_time) for event in events], highest_id)
        _INSERT.run(cursor, rows)
        keys.move_end(cursor, end)


def append_offline(database: sqlite3.Connection, sealing_key: bytes, event: AuditEvent, at: datetime) -> None:
    """Append an event to a database that is not Django's, in the caller's transaction there.

    Nothing is written where no trail was begun. Raises WrongSeal under another secret key.
    """
    found = database.execute("SELECT sealed_end, (SELECT max(id) FROM audit_log) FROM audit_keys").fetchone()
    if found is None:
        return
    rows, end = keys.opened_end(sealing_key, found[0]).extended([event.body(stored_time_of(at))], found[1] or 0)
    _INSERT.run(database.cursor(), rows)
    database.execute("UPDATE audit_keys SET sealed_end = ?", [keys.sealed_end(sealing_key, end)])


def actor_name(user: Any) -> str:
    """Return how the trail calls who acts: by the username, or where nobody is signed in, "operator"."""
    return user.get_username() if user is not None else "operator"


def stored_time_of(moment: datetime) -> str:
    """Return a time as the table holds it: in UTC, without saying so."""
    return str(moment.astimezone(UTC).replace(tzinfo=None))
