"""Writes and checks the audit trail: every row carries an HMAC over itself and the row before.

The key comes from the secret key, so somebody who edits the database file cannot make the chain fit again.
Rows are written in the transaction of what they record: neither exists without the other.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

GENESIS_HASH: Final = "0" * 64
MAX_ACTOR: Final = 150
_COLUMNS: Final = "id, timestamp, event_type, actor, worker_id, task_id, details, previous_hash, hash"
_VERIFY_ROWS: Final = 5000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that happened. `actor` is a user's name, or `engine`."""

    event_type: str
    actor: str = ""
    worker_id: str = ""
    task_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of the whole chain found."""

    count: int
    first_bad_id: int | None = None
    problem: str = ""


def record(*events: AuditEvent, at: datetime | None = None) -> None:
    """Append the events, in order, to the caller's transaction.

    Raises TransactionManagementError outside of a transaction: the row would survive a roll-back of what it
    speaks of.
    """
    if not events:
        return
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("audit rows are written in the transaction they speak of")
    moment = at or datetime.now(UTC)
    stored_time = connection.ops.adapt_datetimefield_value(moment)
    text_time = _time_text(moment)
    with connection.cursor() as cursor:
        # The transaction holds the write lock (BEGIN IMMEDIATE), so nobody else appends meanwhile.
        cursor.execute("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1")
        last_id, last_hash = cursor.fetchone() or (0, GENESIS_HASH)
        rows = []
        for event in events:
            last_id += 1
            details = json.dumps(event.details, separators=(",", ":"), sort_keys=True)
            actor = event.actor[:MAX_ACTOR]
            body = (last_id, text_time, event.event_type, actor, event.worker_id, event.task_id, details)
            row_hash = _row_hash(body, last_hash)
            rows.append(
                (last_id, stored_time, event.event_type, actor, event.worker_id, event.task_id, details, last_hash,
                 row_hash)
            )  # fmt: skip
            last_hash = row_hash
        cursor.executemany(
            f"INSERT INTO audit_log ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608
            rows,
        )


def verify() -> VerifyReport:
    """Walk the whole chain; name the first row that does not fit."""
    count = 0
    previous_id, previous_hash = 0, GENESIS_HASH
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM audit_log WHERE id > %s ORDER BY id LIMIT %s",  # noqa: S608 - constant
                [previous_id, _VERIFY_ROWS],
            )
            rows = cursor.fetchall()
            if not rows:
                return VerifyReport(count)
            for row in rows:
                problem = _problem_of(row, previous_id, previous_hash)
                if problem:
                    return VerifyReport(count, row[0], problem)
                previous_id, previous_hash = row[0], row[8]
                count += 1


def _problem_of(row: tuple[Any, ...], previous_id: int, previous_hash: str) -> str:
    if row[0] != previous_id + 1:
        return f"rows are missing between {previous_id} and {row[0]}"
    if row[7] != previous_hash:
        return "it does not follow the row before"
    try:
        body = (row[0], _time_text(_read_time(row[1])), *row[2:7])
    except (ValueError, TypeError):
        return "its time is no time"
    if not hmac.compare_digest(str(row[8]), _row_hash(body, previous_hash)):
        return "it was changed"
    return ""


def _row_hash(body: tuple[Any, ...], previous_hash: str) -> str:
    # JSON of a list is unambiguous: no two rows give the same text.
    text = json.dumps([*body, previous_hash], separators=(",", ":"))
    return hmac.new(settings.OCTASKLY_AUDIT_KEY, text.encode(), sha256).hexdigest()


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _read_time(stored: Any) -> datetime:
    moment = stored if isinstance(stored, datetime) else datetime.fromisoformat(str(stored))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
