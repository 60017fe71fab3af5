"""Takes signed checkpoints of the trail, keeps them in a file of lines beside the database, and compares those of others.

The file only ever grows. Copies of it elsewhere, and workers, are witnesses against a trail that was rewritten or cut.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection, transaction

from audit_app import keys
from audit_app.durable import sync_folder
from audit_app.inspection import RESTORED, Restore, contradiction, not_signed
from audit_app.models import AuditEntry, AuditTombstone
from audit_app.signed import Checkpoint, Unreadable, is_signed
from audit_app.trail import AuditEvent, record

logger = logging.getLogger(__name__)

EVERY_ROWS: Final = 1000
EVERY_S: Final = 600.0
"""At the latest, when there are new rows."""
_TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A checkpoint that does not fit the trail."""

    problem: str
    is_new: bool
    """It was not on record yet."""


def default_file() -> Path:
    """Return where checkpoints are kept."""
    return Path(settings.OCTASKLY_AUDIT_CHECKPOINTS)


def read(path: Path) -> list[Checkpoint]:
    """Return the checkpoints of a file, without lines that are none, as a power cut may leave; raises OSError."""
    return list(_whole(path.read_text(encoding="utf-8", errors="replace").splitlines()))


def newest(path: Path) -> Checkpoint | None:
    """Return the last checkpoint of a file, None where there is none; raises OSError."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - _TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next(_whole(reversed(lines)), None)


def _whole(lines: Iterable[str]) -> Iterator[Checkpoint]:
    for line in lines:
        try:
            yield Checkpoint.of_line(line)
        except Unreadable:
            continue


def take(path: Path, now: datetime, last: Checkpoint | None = None) -> Checkpoint | None:
    """Sign the trail's present end and append it to the file; None where there are no rows, or none since `last`.

    Nothing is signed that the trail's sealed end does not vouch for: a cut trail gets no blessing. Raises OSError,
    WrongSeal.
    """
    end, signing = keys.present_end(), keys.signing_key()
    if end is None or signing is None or not end.last_id or (last and last.head == end.last_hash):
        return None
    # No row in between: a row that was committed meanwhile only makes this checkpoint an earlier one.
    stored = AuditEntry.objects.filter(id=end.last_id).values_list("hash", flat=True).first()
    if stored != end.last_hash:
        logger.critical(
            "The audit trail was changed at row %d: no checkpoint is taken", end.last_id,
            extra={"event": "audit_contradicted", "row_id": end.last_id},
        )  # fmt: skip
        return None
    taken_at = now.astimezone(UTC).isoformat(timespec="microseconds")
    checkpoint = Checkpoint(end.last_id, end.last_hash, taken_at).signed_with(signing)
    _append(path, checkpoint.line())
    logger.info(
        "Audit checkpoint: row %d is %s", checkpoint.row_id, checkpoint.head,
        extra={"event": "audit_checkpoint", **asdict(checkpoint)},
    )  # fmt: skip
    return checkpoint


def is_due(last: Checkpoint | None, now: datetime) -> bool:
    """Return whether the trail has moved on far, or long enough ago, since the last checkpoint."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM audit_log")
        last_id = cursor.fetchone()[0] or 0
    if last is None or last_id < last.row_id:
        return bool(last_id)
    age_s = (now - last.moment).total_seconds()
    return last_id - last.row_id >= EVERY_ROWS or (last_id > last.row_id and not 0 <= age_s < EVERY_S)


def examine(checkpoint: Checkpoint, keeper: str, worker_id: str = "") -> Contradiction | None:
    """Compare a checkpoint that somebody kept with the trail; what contradicts it is recorded, once a keeper.

    Raises WrongSeal.
    """
    with transaction.atomic():
        signing = keys.signing_key()
        if signing is None:
            keys.open_end(connection.connection.cursor())
            signing = keys.signing_key()
        problem, explained_by = "", {}
        if signing is None or not is_signed(checkpoint, signing.public_key().public_bytes_raw()):
            problem = not_signed(checkpoint, keeper)
        elif not AuditTombstone.objects.filter(last_id__gte=checkpoint.row_id).exists():
            head = AuditEntry.objects.filter(id=checkpoint.row_id).values_list("hash", flat=True).first()
            last_id = AuditEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0
            problem = contradiction(checkpoint, head, last_id, keeper)
            if problem and (restore := _restore_of(checkpoint)):
                explained_by = {"explained_by_row": restore.row_id}
        if not problem:
            return None
        named = f'"head":"{checkpoint.head}","row":{checkpoint.row_id}}}'
        known = AuditEntry.objects.filter(event_type="audit_contradicted", worker_id=worker_id, details__contains=named)
        is_new = not known.exists()
        if is_new:
            details = {"detail": problem, "head": checkpoint.head, "row": checkpoint.row_id, **explained_by}
            record(AuditEvent("audit_contradicted", "engine", worker_id, details=details))
    if explained_by:
        problem += f"; the backup that was restored at row {explained_by['explained_by_row']} explains it"
    return Contradiction(problem, is_new)


def _restore_of(checkpoint: Checkpoint) -> Restore | None:
    restored = AuditEntry.objects.filter(event_type=RESTORED, id__lte=checkpoint.row_id).values_list("id", "timestamp")
    restores = (Restore(row_id, moment.isoformat()) for row_id, moment in restored)
    return next((restore for restore in restores if restore.explains(checkpoint)), None)


def _append(path: Path, line: str) -> None:
    """Append a line, on disk when this returns; after a torn one it begins anew."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        is_torn = False
        if os.fstat(descriptor).st_size:
            os.lseek(descriptor, -1, os.SEEK_END)
            is_torn = os.read(descriptor, 1) != b"\n"
        os.write(descriptor, ("\n" * is_torn + line + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)
