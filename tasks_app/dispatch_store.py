"""The engine's store on Django's database: few statements, many rows. The only hot path to the tables.

Every change of an attempt is a compare-and-set on the attempt's own row, so that a late or doubled record
changes nothing. The rest of the project uses the ORM; here plain SQL saves most of the time. The SQL is
portable to PostgreSQL.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import DatabaseError, OperationalError, connection, transaction

from audit_app.trail import AuditEvent, record
from dispatcher.ports import (
    AttemptKey,
    ClaimTask,
    EnrolmentAnswer,
    ReadyTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    RecoveredAttempt,
    StoreUnavailable,
    TaskClass,
    WhitelistEntry,
    Wishes,
)
from octaskly_wire.messages import Limits, OutcomeReport
from octaskly_wire.vocabulary import Admission, FailureReason, RefusalCode, SandboxLevel
from tasks_app import worker_records
from tasks_app.models import Task
from tasks_app.output_text import shown_text
from workers_app import services
from workers_app.models import Worker

logger = logging.getLogger(__name__)

READY_COLUMNS: Final = (
    "id, command, priority, timeout_s, sandbox, network, env, limits, max_retries, attempt, failures, losses"
)


def utc_now() -> datetime:
    """Return the wall-clock time that rows get."""
    return datetime.now(UTC)


class DispatchStore:
    """Implements dispatcher.ports.Store. Call it from one thread only."""

    def recover(self) -> list[RecoveredAttempt]:
        """Return what was live when the last dispatcher stopped."""
        return _retryable(self._recover)

    def commit(self, records: Sequence[Any]) -> frozenset[AttemptKey]:
        """Write all records in one transaction and return the claims that were refused."""
        return _retryable(lambda: self._commit(records))

    def fetch_ready(self, classes: Iterable[TaskClass], limit: int) -> list[ReadyTask]:
        """Return the head of the queue of each class."""
        return _retryable(lambda: [task for wanted in classes for task in self._fetch_class(wanted, limit)])

    def wishes(self) -> Wishes:
        """Return cancellations of live attempts and the whitelist."""
        return _retryable(self._wishes)

    def whitelist_entry(self, worker_id: str) -> WhitelistEntry | None:
        """Return what the whitelist says of one worker."""
        return _retryable(lambda: next(iter(_whitelist(Worker.objects.filter(id=worker_id))), None))

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
        return [
            RecoveredAttempt(
                # The row counts the live attempt; the core counts from the one before.
                task=_ready_task((*row[:9], row[9] - 1, *row[10:12])),
                number=row[9],
                worker_id=row[12],
                is_started=row[13] == "running",
                is_cancel_requested=row[14] is not None,
            )
            for row in rows
        ]

    def _fetch_class(self, wanted: TaskClass, limit: int) -> list[ReadyTask]:
        sandbox, network = wanted
        with connection.cursor() as cursor:
            # Spelled as the partial index tasks_ready is, so that it serves condition and order alike.
            cursor.execute(
                f"SELECT {READY_COLUMNS} FROM tasks"  # noqa: S608 - constant
                " WHERE status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL"
                " AND sandbox = %s AND network = %s AND available_at <= %s"
                " ORDER BY priority DESC, id LIMIT %s",
                [sandbox.value, network, _db_time(utc_now()), limit],
            )
            return [_ready_task(row) for row in cursor.fetchall()]

    def _wishes(self) -> Wishes:
        cancelled = Task.objects.filter(assigned_at__isnull=False, cancel_requested_at__isnull=False)
        return Wishes(
            cancelled_task_ids=list(cancelled.values_list("id", flat=True)),
            whitelist=_whitelist(Worker.objects.all()),
        )

    # --- writing -----------------------------------------------------------------------------------

    def _commit(self, records: Sequence[Any]) -> frozenset[AttemptKey]:
        group = _Group(utc_now())
        with transaction.atomic():
            for item in records:
                group.write(item)
            record(*group.audit, at=group.now)
        return frozenset(group.refused)


class _Group:
    """One transaction's worth of records being written."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.now_text = _db_time(now)
        self.audit: list[AuditEvent] = []
        self.refused: set[AttemptKey] = set()

    def write(self, item: Any) -> None:
        """Write one record and note its audit event."""
        match item:
            case ClaimTask():
                self._claim(item)
            case RecordStarted():
                self._started(item)
            case RecordOutcome():
                self._outcome(item)
            case RecordGivenUp():
                self._given_up(item)
            case RecordSuperseded():
                self._superseded(item)
            case _:
                self.audit += worker_records.write(item, self.now)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

    def _claim(self, claim: ClaimTask) -> None:
        key = claim.key
        granted = self._execute(
            "UPDATE tasks SET assigned_at = %s, attempt = %s, worker_id = %s"
            " WHERE id = %s AND attempt = %s AND status = 'queued'"
            " AND assigned_at IS NULL AND cancel_requested_at IS NULL",
            [self.now_text, key.number, claim.worker_id, key.task_id, key.number - 1],
        )
        if not granted:
            self.refused.add(key)
            return
        self._execute(
            "INSERT INTO results (attempt_id, task_id, attempt, worker_id, state, detail, is_superseded,"
            " assigned_at, sandbox_level, sandbox_backend, limits, stdout_bytes, stderr_bytes,"
            " stdout_truncated, stderr_truncated, stdout, stderr)"
            " VALUES (%s, %s, %s, %s, 'assigned', '', %s, %s, '', '', '{}', 0, 0, %s, %s, %s, %s)",
            [
                key.attempt_id, key.task_id, key.number, claim.worker_id, False, self.now_text,
                False, False, b"", b"",
            ],
        )  # fmt: skip

    def _started(self, started: RecordStarted) -> None:
        key = started.key
        if not self._execute(
            "UPDATE results SET state = 'running', started_at = %s WHERE attempt_id = %s AND state = 'assigned'",
            [self.now_text, key.attempt_id],
        ):
            return
        self._execute(
            "UPDATE tasks SET status = 'running', started_at = %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL AND status = 'queued'",
            [self.now_text, key.task_id, key.number],
        )
        self.audit.append(AuditEvent("task_started", "engine", started.worker_id, key.task_id, {"attempt": key.number}))

    def _outcome(self, ended: RecordOutcome) -> None:
        key, report = ended.key, ended.report
        outcome = _outcome_word(report)
        if not self._end_attempt(key, outcome, report, ended.stdout, ended.stderr):
            return
        details = {"attempt": key.number, "outcome": outcome, "exit_code": report.exit_code}
        if report.failure_reason is not None:
            details["failure_reason"] = report.failure_reason.value
        is_failure = report.failure_reason not in {None, FailureReason.CANCELLED}
        if ended.retry_delay_s is not None:
            self._requeue(key, ended.retry_delay_s, failures=1, losses=0)
            details["retry_in_s"] = round(ended.retry_delay_s, 3)
            self.audit.append(AuditEvent("task_requeued", "engine", ended.worker_id, key.task_id, details))
            return
        # A command that was to be cancelled and failed first was cancelled all the same.
        stdout, is_stdout_cut = shown_text(ended.stdout, is_truncated=report.stdout.is_truncated)
        stderr, is_stderr_cut = shown_text(ended.stderr, is_truncated=report.stderr.is_truncated)
        self._execute(
            "UPDATE tasks SET"
            " status = CASE WHEN %s = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE %s END,"
            " failure_reason = CASE WHEN %s = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE %s END,"
            " assigned_at = NULL, completed_at = %s, started_at = COALESCE(started_at, %s), exit_code = %s,"
            " duration_ms = %s, failures = failures + %s, stdout = %s, stderr = %s,"
            " stdout_truncated = %s, stderr_truncated = %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL",
            [
                outcome, outcome, outcome, report.failure_reason.value if report.failure_reason else None,
                self.now_text, self.now_text, report.exit_code,
                report.duration_ms, int(is_failure), stdout, stderr,
                is_stdout_cut, is_stderr_cut,
                key.task_id, key.number,
            ],
        )  # fmt: skip
        self.audit.append(AuditEvent("task_finished", "engine", ended.worker_id, key.task_id, details))

    def _given_up(self, given_up: RecordGivenUp) -> None:
        key = given_up.key
        outcome = "lost" if given_up.is_loss else "rejected"
        reason = given_up.failure_reason
        ended = self._execute(
            "UPDATE results SET state = 'ended', outcome = %s, failure_reason = %s, detail = %s, completed_at = %s"
            " WHERE attempt_id = %s AND state <> 'ended'",
            [outcome, reason.value if reason else None, given_up.detail, self.now_text, key.attempt_id],
        )
        if not ended:
            return
        details: dict[str, Any] = {"attempt": key.number, "outcome": outcome, "detail": given_up.detail}
        if given_up.retry_delay_s is not None:
            self._requeue(key, given_up.retry_delay_s, failures=0, losses=int(given_up.is_loss))
            self.audit.append(AuditEvent("task_requeued", "engine", given_up.worker_id, key.task_id, details))
            return
        status = "cancelled" if reason is FailureReason.CANCELLED else "failed"
        self._execute(
            "UPDATE tasks SET status = %s, failure_reason = %s, assigned_at = NULL, completed_at = %s,"
            " losses = losses + %s WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL",
            [status, reason.value if reason else None, self.now_text, int(given_up.is_loss), key.task_id, key.number],
        )
        details["failure_reason"] = reason.value if reason else None
        self.audit.append(AuditEvent("task_finished", "engine", given_up.worker_id, key.task_id, details))

    def _superseded(self, late: RecordSuperseded) -> None:
        report = late.report
        changed = self._execute(
            "UPDATE results SET is_superseded = %s, exit_code = %s, signal = %s, duration_ms = %s, cpu_seconds = %s,"
            " max_rss_bytes = %s, stdout_bytes = %s, stderr_bytes = %s, stdout_truncated = %s, stderr_truncated = %s,"
            " stdout = %s, stderr = %s"
            " WHERE attempt_id = %s AND worker_id = %s AND state = 'ended' AND outcome IN ('lost', 'rejected')"
            " AND is_superseded = %s",
            [
                True, report.exit_code, report.signal, report.duration_ms, report.cpu_seconds,
                report.max_rss_bytes, report.stdout.total_bytes, report.stderr.total_bytes,
                report.stdout.is_truncated, report.stderr.is_truncated, late.stdout, late.stderr,
                late.key.attempt_id, late.worker_id, False,
            ],
        )  # fmt: skip
        if changed:
            details = {"attempt": late.key.number, "exit_code": report.exit_code}
            self.audit.append(AuditEvent("outcome_superseded", "engine", late.worker_id, late.key.task_id, details))

    def _requeue(self, key: AttemptKey, delay_s: float, *, failures: int, losses: int) -> None:
        available_at = _db_time(self.now + timedelta(seconds=delay_s))
        # A cancel that was wished for meanwhile stands above the retry.
        self._execute(
            "UPDATE tasks SET status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,"
            " failure_reason = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE 'cancelled' END,"
            " completed_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE %s END,"
            " assigned_at = NULL, worker_id = NULL, started_at = NULL, available_at = %s,"
            " failures = failures + %s, losses = losses + %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL",
            [self.now_text, available_at, failures, losses, key.task_id, key.number],
        )

    def _end_attempt(self, key: AttemptKey, outcome: str, report: OutcomeReport, stdout: bytes, stderr: bytes) -> int:
        return self._execute(
            "UPDATE results SET state = 'ended', outcome = %s, failure_reason = %s, detail = %s,"
            " started_at = COALESCE(started_at, %s), completed_at = %s, exit_code = %s, signal = %s,"
            " duration_ms = %s, cpu_seconds = %s, max_rss_bytes = %s, sandbox_level = %s, sandbox_backend = %s,"
            " limits = %s, stdout_bytes = %s, stderr_bytes = %s, stdout_truncated = %s, stderr_truncated = %s,"
            " stdout = %s, stderr = %s WHERE attempt_id = %s AND state <> 'ended'",
            [
                outcome, report.failure_reason.value if report.failure_reason else None, report.detail,
                self.now_text, self.now_text, report.exit_code, report.signal,
                report.duration_ms, report.cpu_seconds, report.max_rss_bytes, report.sandbox.value, report.backend,
                json.dumps(report.limits), report.stdout.total_bytes, report.stderr.total_bytes,
                report.stdout.is_truncated, report.stderr.is_truncated,
                stdout, stderr, key.attempt_id,
            ],
        )  # fmt: skip


def _outcome_word(report: OutcomeReport) -> str:
    if report.failure_reason is None:
        return "completed"
    return "cancelled" if report.failure_reason is FailureReason.CANCELLED else "failed"


def _ready_task(row: Sequence[Any]) -> ReadyTask:
    return ReadyTask(
        task_id=row[0],
        command=row[1],
        priority=row[2],
        timeout_s=row[3],
        sandbox=SandboxLevel(row[4]),
        network=bool(row[5]),
        env=json.loads(row[6]),
        limits=msgspec.convert(json.loads(row[7]), Limits),
        max_retries=row[8],
        attempt=row[9],
        failures=row[10],
        losses=row[11],
    )


def _whitelist(workers: Any) -> list[WhitelistEntry]:
    columns = ("id", "public_key_sha256", "admission", "is_draining", "admission_reason")
    return [
        WhitelistEntry(worker_id, key, Admission(admission), is_draining, reason)
        for worker_id, key, admission, is_draining, reason in workers.values_list(*columns)
    ]


def _db_time(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _retryable(function: Any) -> Any:
    """Run a database call; a lock or a full disk becomes StoreUnavailable."""
    try:
        return function()
    except OperationalError as error:
        # The connection may be broken beyond this statement: the next try opens a new one.
        connection.close()
        raise StoreUnavailable(str(error)) from error
    except DatabaseError:
        logger.exception("The database refused a statement")
        raise
