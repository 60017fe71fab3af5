"""The engine's store on Django's database: reads the queue, commits what the engine decided.

The rest of the project mostly uses the ORM; here and in dispatch_records.py plain SQL saves most of the time. The SQL
is portable to PostgreSQL, all but its marks for values, which are SQLite's.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import DatabaseError, OperationalError, connection, transaction

from accounts_app.plain_sql import db_time, read
from audit_app import checkpoints
from audit_app.signed import Checkpoint
from audit_app.trail import record
from dispatcher.ports import (
    MAX_RETRY_DELAY_S,
    AttemptKey,
    Blobs,
    Ceiling,
    EnrolmentAnswer,
    ReadyTask,
    RecordGivenUp,
    RecordOutcome,
    RecoveredAttempt,
    RenewalAnswer,
    StoreUnavailable,
    TaskClass,
    WhitelistEntry,
    Wishes,
)
from octaskly_wire import identity
from octaskly_wire.messages import NO_LIMITS, AuditCheckpoint, InputFile, Limits
from octaskly_wire.vocabulary import RefusalCode, SandboxLevel
from tasks_app import signals, worker_records
from tasks_app.dispatch_records import RecordGroup
from tasks_app.feed import feed
from tasks_app.measured import Measured
from tasks_app.pauses import end_pauses
from tasks_app.staged_inputs import fail_expired, read_inputs
from tasks_app.whitelist import Whitelist
from workers_app import services
from workers_app.models import Worker

logger = logging.getLogger(__name__)

READY_COLUMNS: Final = (
    "id, command, priority, timeout_s, sandbox, network, env, limits, max_retries, attempt, failures, losses,"
    " inputs, outputs"
)

# Spelled as the partial index tasks_ready is, so that it serves condition and order alike.
_READY: Final = (
    f"SELECT {READY_COLUMNS} FROM tasks"  # noqa: S608 - constant
    " WHERE status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL AND NOT is_paused"
    " AND sandbox = ? AND network = ? AND (available_at <= ? OR available_at > ? OR attempt = 0)"
)
_IN_ORDER: Final = " ORDER BY priority DESC, id LIMIT ?"
READY_QUERY: Final = _READY + _IN_ORDER

_TO_CANCEL: Final = "SELECT id FROM tasks WHERE assigned_at IS NOT NULL AND cancel_requested_at IS NOT NULL"

LIMIT_NAMES: Final = Limits.__struct_fields__
_FITS: Final = "".join(f" AND (asked_{name} IS NULL OR asked_{name} <= ?)" for name in LIMIT_NAMES)
FITTING_QUERY: Final = f"{_READY}{_FITS} AND timeout_s <= ?{_IN_ORDER}"
UNBOUNDED: Final = (1 << 63) - 1
"""No task asks for more."""
NO_FILES: Final = "[]"
"""What stands in `inputs` and `outputs` of most tasks: then nothing more is read, and nothing parsed."""
NOTHING: Final = "{}"
"""The same of `env` and `limits`."""
_LEVELS: Final = {level.value: level for level in SandboxLevel}


def utc_now() -> datetime:
    """Return the wall-clock time that rows get."""
    return datetime.now(UTC)


class DispatchStore:
    """Implements dispatcher.ports.Store. Call it from one thread only."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._seen_version: tuple[int, ...] = ()
        self._whitelist = Whitelist()

    def recover(self) -> list[RecoveredAttempt]:
        """Return what was live when the last dispatcher stopped."""
        return _retryable(self._recover)

    def commit(self, records: Sequence[Any]) -> frozenset[AttemptKey]:
        """Write all records in one transaction and return the attempts whose record was refused."""
        refused, measured = _retryable(lambda: self._commit(records))
        feed.tell(
            (item.key.task_id for item in records if hasattr(item, "key")),
            ended=(item.key.task_id for item in records if isinstance(item, RecordOutcome | RecordGivenUp)),
        )
        # Robust: the records are on disk, whatever becomes of measuring.
        signals.records_committed.send_robust(DispatchStore, measured=measured)
        return frozenset(refused)

    def fetch_ready(self, classes: Iterable[TaskClass], limit: int) -> list[ReadyTask]:
        """Return the head of the queue of each class."""
        _retryable(lambda: end_pauses(utc_now()))
        return _retryable(lambda: [task for wanted in classes for task in _fetch(READY_QUERY, wanted, [limit])])

    def fetch_fitting(self, task_class: TaskClass, ceiling: Ceiling, limit: int) -> list[ReadyTask]:
        """Return the first of a class that fit under the ceiling. What does not is passed over in the index."""
        _retryable(lambda: end_pauses(utc_now()))
        most = [getattr(ceiling.limits, name) for name in LIMIT_NAMES] + [ceiling.timeout_s]
        bounds = [UNBOUNDED if bound is None else bound for bound in most]
        return _retryable(lambda: _fetch(FITTING_QUERY, task_class, [*bounds, limit]))

    def has_news(self) -> bool:
        """Return whether another connection has committed anything since the last call."""
        return _retryable(self._has_news)

    def wishes(self) -> Wishes:
        """Return cancellations of live attempts, what is new on the whitelist, and the trusted CAs."""
        return _retryable(self._wishes)

    def whitelist_entries(self, worker_ids: Sequence[str]) -> list[WhitelistEntry]:
        """Return what the whitelist says of these workers."""
        return _retryable(lambda: self._whitelist.of(worker_ids))

    def enrol(
        self, *, token_id: str, secret: str, certificate_request: bytes, name: str, address: str
    ) -> EnrolmentAnswer:
        """Use a join token."""
        try:
            enrolled = _retryable(
                lambda: services.enrol(
                    token_id=token_id,
                    secret=secret,
                    certificate_request=certificate_request,
                    name=name,
                    address=address,
                    now=utc_now(),
                )
            )
        except services.EnrolmentRefused as error:
            return EnrolmentAnswer(refusal=RefusalCode.BAD_TOKEN, detail=str(error))
        return EnrolmentAnswer(
            worker_id=enrolled.worker_id, certificate=enrolled.certificate, admission=enrolled.admission
        )

    def examine_witnessed(self, worker_id: str, checkpoint: AuditCheckpoint) -> str:
        """Compare a checkpoint that a worker shows with the trail; return what is new and wrong."""
        shown = Checkpoint(checkpoint.row_id, checkpoint.head, checkpoint.taken_at, checkpoint.signature.hex())
        found = _retryable(lambda: checkpoints.examine(shown, "a worker", worker_id))
        return found.problem if found is not None and found.is_new else ""

    def renew(self, worker_id: str, certificate_request: bytes) -> RenewalAnswer:
        """Make a new certificate for this worker's key."""
        try:
            certificate = _retryable(lambda: services.renew(worker_id, certificate_request, utc_now()))
        except services.RenewalRefused as error:
            return RenewalAnswer(detail=str(error))
        issuer = identity.issuer_among(certificate, _retryable(services.trusted_certificates))
        return RenewalAnswer(certificate, identity.ca_digest(issuer).hex())

    def issue_leaf(self) -> bytes:
        """Return a new certificate for the dispatcher itself."""
        return _retryable(lambda: services.issue_leaf(utc_now()))

    def settle_trust(self) -> tuple[bytes, ...]:
        """Drop the old CA if nobody needs it any more; return the CAs to trust."""
        _retryable(lambda: services.settle_rotation(utc_now()))
        return _retryable(services.trusted_certificates)

    # --- reading -----------------------------------------------------------------------------------

    def _recover(self) -> list[RecoveredAttempt]:
        with transaction.atomic():
            worker_records.mark_all_disconnected()
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {READY_COLUMNS}, worker_id, status, cancel_requested_at"  # noqa: S608 - constant
                " FROM tasks WHERE assigned_at IS NOT NULL"
            )
            rows = cursor.fetchall()
        boots = dict(Worker.objects.values_list("id", "boot_id"))
        inputs, _ = read_inputs([row[0] for row in rows if row[12] != NO_FILES])
        return [
            RecoveredAttempt(
                # The row counts the live attempt; the core counts from the one before.
                task=_ready_task((*row[:9], row[9] - 1, *row[10:14]), inputs),
                number=row[9],
                worker_id=row[14],
                worker_boot_id=boots.get(row[14], ""),
                is_started=row[15] == "running",
                is_cancel_requested=row[16] is not None,
            )
            for row in rows
        ]

    def _wishes(self) -> Wishes:
        return Wishes(
            cancelled_task_ids=[task_id for (task_id,) in read(_TO_CANCEL)],
            ca_certificates=services.trusted_certificates(),
            whitelist=self._whitelist.changed(),  # Told once: after this nothing may fail.
        )

    def _has_news(self) -> bool:
        if connection.vendor != "sqlite":
            return True
        # Counted by each connection for itself: what another one says cannot be compared.
        version = (*read("PRAGMA data_version")[0], id(connection.connection))
        is_new, self._seen_version = version != self._seen_version, version
        return is_new

    # --- writing -----------------------------------------------------------------------------------

    def _commit(self, records: Sequence[Any]) -> tuple[set[AttemptKey], Measured]:
        began_at = time.perf_counter()
        with transaction.atomic():
            group = RecordGroup(utc_now(), self._blobs)
            group.write(records)
            record(*group.audit, at=group.now)
        return group.refused, group.measuring.frozen(time.perf_counter() - began_at, len(records))


def _fetch(query: str, task_class: TaskClass, parameters: Sequence[int]) -> list[ReadyTask]:
    sandbox, network = task_class
    now = utc_now()
    # The wall clock may be set back: no task waits longer for that than for its pause, a new one not at all.
    beyond_any_pause = now + timedelta(seconds=MAX_RETRY_DELAY_S)
    while True:
        rows = read(query, [sandbox.value, network, db_time(now), db_time(beyond_any_pause), *parameters])
        inputs, expired = read_inputs([row[0] for row in rows if row[12] != NO_FILES])
        if not expired:
            return [_ready_task(row, inputs) for row in rows]
        # Read again, since an answer with fewer tasks than were asked for says that there are no more.
        fail_expired(expired, now)


def _ready_task(row: Sequence[Any], inputs: Mapping[str, tuple[InputFile, ...]]) -> ReadyTask:
    return ReadyTask(
        task_id=row[0],
        command=row[1],
        priority=row[2],
        timeout_s=row[3],
        sandbox=_LEVELS[row[4]],
        network=bool(row[5]),
        env={} if row[6] == NOTHING else json.loads(row[6]),
        limits=NO_LIMITS if row[7] == NOTHING else msgspec.json.decode(row[7], type=Limits),
        max_retries=row[8],
        attempt=row[9],
        failures=row[10],
        losses=row[11],
        inputs=inputs.get(row[0], ()),
        outputs=() if row[13] == NO_FILES else tuple(json.loads(row[13])),
    )


def _retryable(function: Any) -> Any:
    """Run a database call; a lock or a full disk becomes StoreUnavailable."""
    try:
        return function()
    except OperationalError as error:
        # The connection may be broken beyond this statement: the next try opens a new one.
        connection.close()
        raise StoreUnavailable(str(error)) from error
    except DatabaseError:
        logger.exception("The database refused a statement", extra={"event": "database_failed"})
        raise
