"""Writes the engine's records within one transaction: few statements, many rows. The hot path to the tables.

Every change of an attempt is a compare-and-set on the attempt's own row, so that a late or doubled record
changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import connection

from audit_app.trail import AuditEvent
from dispatcher.ports import (
    AttemptKey,
    Blobs,
    ClaimTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
)
from octaskly_wire.messages import CapturedOutput, OutcomeReport
from octaskly_wire.vocabulary import FailureReason
from tasks_app import worker_records
from tasks_app.measured import Measuring
from tasks_app.output_records import KeptStream, kept_stream, write_outputs


class RecordGroup:
    """One transaction's worth of records being written."""

    def __init__(self, now: datetime, blobs: Blobs) -> None:
        self.now = now
        self._blobs = blobs
        self.now_text = db_time(now)
        self.audit: list[AuditEvent] = []
        self.refused: set[AttemptKey] = set()
        self.measuring = Measuring()

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
                self.audit += worker_records.write(item, self.now, self.measuring)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

    def _returned(self, sql: str, parameters: Sequence[Any]) -> Any:
        """Return the one column of the one row that a statement gives back, None when it changed none."""
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            row = cursor.fetchone()
        return row[0] if row else None

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
            " stdout_truncated, stderr_truncated, stdout, stderr, outcome_sha256)"
            " VALUES (%s, %s, %s, %s, 'assigned', '', %s, %s, '', '', '{}', 0, 0, %s, %s, %s, %s, '')",
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
        available_at = self._returned(
            "UPDATE tasks SET status = 'running', started_at = %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL AND status = 'queued' RETURNING available_at",
            [self.now_text, key.task_id, key.number],
        )
        if available_at is not None:
            self.measuring.started(available_at, self.now)
        self.audit.append(AuditEvent("task_started", "engine", started.worker_id, key.task_id, {"attempt": key.number}))

    def _outcome(self, ended: RecordOutcome) -> None:
        key, report = ended.key, ended.report
        outcome = _outcome_word(report)
        stdout, stderr = self._streams(ended)
        if not self._end_attempt(ended, outcome, stdout.data, stderr.data):
            return
        self.measuring.outcome(outcome, report)
        write_outputs(key, report, self.now)
        details = {"attempt": key.number, "outcome": outcome, "exit_code": report.exit_code}
        if report.failure_reason is not None:
            details["failure_reason"] = report.failure_reason.value
        is_failure = report.failure_reason not in {None, FailureReason.CANCELLED}
        if ended.retry_delay_s is not None:
            self._requeue(key, ended.worker_id, ended.retry_delay_s, details, failures=1)
            return
        # A command that was to be cancelled and failed first was cancelled all the same.
        status = self._returned(
            "UPDATE tasks SET"
            " status = CASE WHEN %s = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE %s END,"
            " failure_reason = CASE WHEN %s = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE %s END,"
            " assigned_at = NULL, completed_at = %s, started_at = COALESCE(started_at, %s), exit_code = %s,"
            " duration_ms = %s, failures = failures + %s, stdout = %s, stderr = %s,"
            " stdout_truncated = %s, stderr_truncated = %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL RETURNING status",
            [
                outcome, outcome, outcome, report.failure_reason.value if report.failure_reason else None,
                self.now_text, self.now_text, report.exit_code,
                report.duration_ms, int(is_failure), stdout.text, stderr.text,
                stdout.is_cut, stderr.is_cut,
                key.task_id, key.number,
            ],
        )  # fmt: skip
        if status is not None:
            self.measuring.ended.append(status)
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
        self.measuring.given_up.append((outcome, reason.value if reason else ""))
        details: dict[str, Any] = {"attempt": key.number, "outcome": outcome, "detail": given_up.detail}
        if given_up.retry_delay_s is not None:
            losses = int(given_up.is_loss)
            self._requeue(key, given_up.worker_id, given_up.retry_delay_s, details, losses=losses)
            return
        status = "cancelled" if reason is FailureReason.CANCELLED else "failed"
        if self._execute(
            "UPDATE tasks SET status = %s, failure_reason = %s, assigned_at = NULL, completed_at = %s,"
            " losses = losses + %s WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL",
            [status, reason.value if reason else None, self.now_text, int(given_up.is_loss), key.task_id, key.number],
        ):
            self.measuring.ended.append(status)
        details["failure_reason"] = reason.value if reason else None
        self.audit.append(AuditEvent("task_finished", "engine", given_up.worker_id, key.task_id, details))

    def _superseded(self, late: RecordSuperseded) -> None:
        key, report = late.key, late.report
        digest = outcome_digest(report, late.stdout, late.stderr)
        with connection.cursor() as cursor:
            cursor.execute("SELECT worker_id, outcome_sha256 FROM results WHERE attempt_id = %s", [key.attempt_id])
            worker_id, known_digest = cursor.fetchone() or ("", "")
        is_no_news = known_digest == digest or report.failure_reason is FailureReason.WORKER_LOST
        if worker_id == late.worker_id and is_no_news:
            return  # Sent twice since its acknowledgement was lost, or damaged on the worker's disk before that came.
        details: dict[str, Any] = {"attempt": key.number, "exit_code": report.exit_code}
        if report.failure_reason is not None:
            details["failure_reason"] = report.failure_reason.value
        if worker_id != late.worker_id or known_digest:
            self.refused.add(key)
            details["detail"] = (
                "it contradicts the outcome on record" if known_digest else "the attempt was not given to this worker"
            )
            self.audit.append(AuditEvent("outcome_refused", "engine", late.worker_id, key.task_id, details))
            return
        stdout, stderr = self._streams(late)
        self._execute(
            "UPDATE results SET is_superseded = %s, outcome_sha256 = %s, exit_code = %s, signal = %s, duration_ms = %s,"
            " cpu_seconds = %s, max_rss_bytes = %s, spawn_seconds = %s, stdout_bytes = %s, stderr_bytes = %s,"
            " stdout_truncated = %s, stderr_truncated = %s, stdout = %s, stderr = %s WHERE attempt_id = %s AND state = 'ended'",
            [
                True, digest, report.exit_code, report.signal, report.duration_ms,
                report.cpu_seconds, report.max_rss_bytes, report.spawn_seconds,
                report.stdout.total_bytes, report.stderr.total_bytes,
                report.stdout.is_truncated, report.stderr.is_truncated, stdout.data, stderr.data, key.attempt_id,
            ],
        )  # fmt: skip
        write_outputs(key, report, self.now)
        self.audit.append(AuditEvent("outcome_superseded", "engine", late.worker_id, key.task_id, details))

    def _streams(self, told: RecordOutcome | RecordSuperseded) -> tuple[KeptStream, KeptStream]:
        report = told.report
        return (
            kept_stream(self._blobs, report.stdout, told.stdout),
            kept_stream(self._blobs, report.stderr, told.stderr),
        )

    def _requeue(
        self,
        key: AttemptKey,
        worker_id: str,
        retry_delay_s: float,
        details: dict[str, Any],
        *,
        failures: int = 0,
        losses: int = 0,
    ) -> None:
        """Queue the task again; a cancel that was wished for meanwhile stands above that and ends it."""
        ended = (
            "assigned_at = NULL, worker_id = NULL, started_at = NULL, failures = failures + %s, losses = losses + %s"
            " WHERE id = %s AND attempt = %s AND assigned_at IS NOT NULL"
        )
        values = [failures, losses, key.task_id, key.number]
        available_at = db_time(self.now + timedelta(seconds=retry_delay_s))
        if self._execute(
            f"UPDATE tasks SET status = 'queued', available_at = %s, {ended} AND cancel_requested_at IS NULL",  # noqa: S608 - constant
            [available_at, *values],
        ):
            details["retry_in_s"] = round(retry_delay_s, 3)
            self.audit.append(AuditEvent("task_requeued", "engine", worker_id, key.task_id, details))
        elif self._execute(
            "UPDATE tasks SET status = 'cancelled', failure_reason = 'cancelled', completed_at = %s,"  # noqa: S608 - constant
            f" {ended}",
            [self.now_text, *values],
        ):
            self.measuring.ended.append("cancelled")
            details["failure_reason"] = FailureReason.CANCELLED.value
            self.audit.append(AuditEvent("task_finished", "engine", worker_id, key.task_id, details))

    def _end_attempt(self, ended: RecordOutcome, outcome: str, stdout: bytes, stderr: bytes) -> int:
        report = ended.report
        return self._execute(
            "UPDATE results SET state = 'ended', outcome = %s, failure_reason = %s, detail = %s,"
            " started_at = COALESCE(started_at, %s), completed_at = %s, exit_code = %s, signal = %s,"
            " duration_ms = %s, cpu_seconds = %s, max_rss_bytes = %s, spawn_seconds = %s, sandbox_level = %s,"
            " sandbox_backend = %s,"
            " limits = %s, stdout_bytes = %s, stderr_bytes = %s, stdout_truncated = %s, stderr_truncated = %s,"
            " stdout = %s, stderr = %s, outcome_sha256 = %s WHERE attempt_id = %s AND state <> 'ended'",
            [
                outcome, report.failure_reason.value if report.failure_reason else None, report.detail,
                self.now_text, self.now_text, report.exit_code, report.signal,
                report.duration_ms, report.cpu_seconds, report.max_rss_bytes, report.spawn_seconds,
                report.sandbox.value, report.backend,
                json.dumps(report.limits), report.stdout.total_bytes, report.stderr.total_bytes,
                report.stdout.is_truncated, report.stderr.is_truncated,
                stdout, stderr, outcome_digest(report, ended.stdout, ended.stderr), ended.key.attempt_id,
            ],
        )  # fmt: skip


def _outcome_word(report: OutcomeReport) -> str:
    if report.failure_reason is None:
        return "completed"
    return "cancelled" if report.failure_reason is FailureReason.CANCELLED else "failed"


def outcome_digest(report: OutcomeReport, stdout: bytes, stderr: bytes) -> str:
    """Return what tells two outcomes of one attempt apart: SHA-256 over the report and both kept outputs.

    Whether the output came inside the report or in chunks is a matter of its size and makes no difference.
    """
    facts = msgspec.structs.replace(report, stdout=_without_data(report.stdout), stderr=_without_data(report.stderr))
    digest = hashlib.sha256(msgspec.msgpack.encode(facts))
    for output in (stdout, stderr):
        digest.update(hashlib.sha256(output).digest())
    return digest.hexdigest()


def _without_data(output: CapturedOutput) -> CapturedOutput:
    return msgspec.structs.replace(output, data=None)


def db_time(moment: datetime) -> Any:
    """Return a moment as the database holds it."""
    return connection.ops.adapt_datetimefield_value(moment)
