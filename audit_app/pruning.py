"""Removes old rows of the trail by right: up to a checkpoint, with a signed tombstone and a row that tells of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from audit_app import checkpoints, keys
from audit_app.inspection import Report
from audit_app.models import AuditEntry, AuditTombstone
from audit_app.signed import Checkpoint, Tombstone, is_signed
from audit_app.trail import AuditEvent, record, stored_time_of
from audit_app.verifying import Key


class NothingToPrune(Exception):
    """No row can be removed; the text says why."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows that can be removed, and the checkpoint of the last of them."""

    first_id: int
    checkpoint: Checkpoint

    @property
    def row_count(self) -> int:
        """Return how many rows there are."""
        return self.checkpoint.row_id - self.first_id + 1


def find_range(before: datetime, checkpoint_file: Path, key: Key) -> Range:
    """Return the rows that are all older than this, up to the last checkpoint among them; raises NothingToPrune."""
    last = AuditTombstone.objects.order_by("-first_id").first()
    first_id = last.last_id + 1 if last else 1
    with connection.cursor() as cursor:
        # A clock may have been set back: what lies behind a row that stays, stays.
        cursor.execute("SELECT min(id) FROM audit_log WHERE timestamp >= %s", [stored_time_of(before)])
        first_kept_id = cursor.fetchone()[0]
        if first_kept_id is None:
            cursor.execute("SELECT max(id) + 1 FROM audit_log")
            first_kept_id = cursor.fetchone()[0] or 1
    if first_kept_id <= first_id:
        raise NothingToPrune(f"no row is from before {before:%Y-%m-%d %H:%M} UTC")
    known = checkpoints.read(checkpoint_file) if checkpoint_file.exists() else []
    fitting = [one for one in known if first_id <= one.row_id < first_kept_id and is_signed(one, key.public_key)]
    for checkpoint in sorted(fitting, key=lambda one: one.row_id, reverse=True):
        if AuditEntry.objects.filter(id=checkpoint.row_id, hash=checkpoint.head).exists():
            return Range(first_id, checkpoint)
    raise NothingToPrune(
        f"rows {first_id} to {first_kept_id - 1} are old enough, but {checkpoint_file} has no checkpoint of any of them"
    )


def prune(rows: Range, inspected: Report, actor: str, now: datetime) -> Tombstone:
    """Remove the rows, of a trail that was inspected and found whole, and return the tombstone.

    Tombstone, removal and the row that tells of it are one transaction. Raises WrongSeal.
    """
    signing = keys.signing_key()
    if signing is None or inspected.findings:
        raise NothingToPrune("the trail is not whole")
    moment = now.astimezone(UTC).isoformat(timespec="microseconds")
    last_id, head = rows.checkpoint.row_id, rows.checkpoint.head
    stone = Tombstone(rows.first_id, last_id, rows.row_count, head, actor, moment).signed_with(signing)
    # What explains contradictions must outlast its own row.
    restores = [(one.row_id, one.restored_at) for one in inspected.restores if one.row_id <= last_id]
    details: dict[str, Any] = {"first_row": rows.first_id, "last_row": last_id, "rows": rows.row_count, "head": head}
    if restores:
        details["restores"] = restores
    with transaction.atomic():
        AuditTombstone.objects.create(**asdict(stone))
        with connection.cursor() as cursor:
            # The trigger lets go of what a tombstone covers, and of nothing else.
            cursor.execute("DELETE FROM audit_log WHERE id <= %s", [last_id])
            if cursor.rowcount != rows.row_count:
                raise NothingToPrune("another program has removed rows meanwhile")
        record(AuditEvent("audit_pruned", actor, details=details), at=now)
    return stone
