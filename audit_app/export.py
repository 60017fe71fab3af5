"""Writes the trail, or what filters leave of it, as one CSV or JSON document: in pieces, so of any length."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Max, QuerySet

from audit_app.cells import harmless
from audit_app.models import AuditEntry
from audit_app.selectors import oldest_first
from audit_app.trail import AuditEvent, record
from audit_app.words import describe, details_of

COLUMNS: Final = (
    "id", "timestamp", "event_type", "actor", "worker_id", "task_id", "text", "details", "previous_hash", "hash",
)  # fmt: skip
_PIECE_ROWS: Final = 1000
_LONGEST_FILTER: Final = 200


@dataclass(frozen=True, slots=True)
class Form:
    """How rows become text."""

    content_type: str
    begin: Callable[[], str]
    rows: Callable[[Sequence[AuditEntry]], str]
    between: str
    end: str


def begin(actor: str, form: str, filters: Mapping[str, str]) -> int:
    """Write down who takes what out, and return the id of the last row before that one."""
    now = datetime.now(UTC)
    details = {"format": form, "filters": {name: value[:_LONGEST_FILTER] for name, value in filters.items()}}
    with transaction.atomic():
        last_id = AuditEntry.objects.aggregate(last_id=Max("id"))["last_id"] or 0
        record(AuditEvent("audit_exported", actor, details=details), at=now)
    return last_id


def pieces(rows: QuerySet[AuditEntry], person: str, form: Form, last_id: int) -> Iterator[bytes]:
    """Yield the document, oldest row first.

    Each piece is read by a query of its own, behind the last id: no statement stays open while the reader is slow, and
    each may be asked for from another thread.
    """
    yield form.begin().encode()
    after_id = 0
    while True:
        try:
            found = oldest_first(rows.filter(id__gt=after_id, id__lte=last_id), person, _PIECE_ROWS)
        finally:
            if not connection.in_atomic_block:
                connection.close()  # Of a thread that nobody else would tell to.
        if not found:
            break
        text = form.rows(found)
        yield (form.between + text if after_id else text).encode("utf-8", "replace")
        after_id = found[-1].id
    if form.end:
        yield form.end.encode()


def _csv_lines(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    # All quoted: where a semicolon parts cells, an unquoted one within a text would begin the next.
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(lines)
    return text.getvalue()


def _csv_rows(entries: Sequence[AuditEntry]) -> str:
    return _csv_lines([[harmless(str(cell)) for cell in _values(entry, entry.details)] for entry in entries])


def _json_rows(entries: Sequence[AuditEntry]) -> str:
    rows = (dict(zip(COLUMNS, _values(entry, details_of(entry)), strict=True)) for entry in entries)
    return ",\n".join(json.dumps(row) for row in rows)


def _values(entry: AuditEntry, details: Any) -> tuple[Any, ...]:
    moment = entry.timestamp.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (
        entry.id, moment, entry.event_type, entry.actor, entry.worker_id, entry.task_id, describe(entry), details,
        entry.previous_hash, entry.hash,
    )  # fmt: skip


FORMS: Final[Mapping[str, Form]] = {
    "csv": Form("text/csv; charset=utf-8; header=present", lambda: _csv_lines([COLUMNS]), _csv_rows, "", ""),
    "json": Form("application/json", lambda: "[\n", _json_rows, ",\n", "\n]\n"),
}
