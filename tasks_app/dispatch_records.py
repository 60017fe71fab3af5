"""Writes the engine's records within one transaction. The hot path to the tables.

Every change of an attempt is a compare-and-set on the attempt's own row, so that a late or doubled record
changes nothing. One cursor of the driver serves all of a transaction: what Django puts around each statement costs
more than the statement. So the marks for values are SQLite's; the statements themselves are PostgreSQL's, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, Final

import msgspec
from django.db import connection

from accounts_app.plain_sql import db_time
from audit_app.trail import AuditEvent, as_json
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
from octaskly_wire.vocabulary import Enforcement, FailureReason
from tasks_app import worker_records
from tasks_app.measured import Measuring
from tasks_app.output_records import KeptStream, kept_stream, write_outputs

_CLAIM: Final = (
    "UPDATE tasks SET assigned_at = ?, attempt = ?, worker_id = ?"
    " WHERE id = ? AND attempt = ? AND status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL"
)
_BEGIN_RESULT: Final = (
    "INSERT INTO results (attempt_id, task_id, attempt, worker_id, state, detail, is_superseded,"
    " assigned_at, sandbox_level, sandbox_backend, limits, stdout_bytes, stderr_bytes,"
    " stdout_truncated, stderr_truncated, stdout, stderr, outcome_sha256)"
    " VALUES (?, ?, ?, ?, 'assigned', '', FALSE, ?, '', '', '{}', 0, 0, FALSE, FALSE, ?, ?, '')"
)
_START_RESULT: Final = (
    "UPDATE results SET state = 'running', started_at = ? WHERE attempt_id = ? AND state = 'assigned'"
)
_START_TASK: Final = (
    "UPDATE tasks SET status = 'running', started_at = ?"
    " WHERE id = ? AND attempt = ? AND assigned_at IS NOT NULL AND status = 'queued' RETURNING CAST(available_at AS TEXT)"
)
# What a statement binds costs more than what it changes: the columns of output are left out where there is none.
_END_RESULT: Final = (
    "UPDATE results SET state = 'ended', outcome = ?, failure_reason = ?, detail = ?,"
    " started_at = COALESCE(started_at, ?), completed_at = ?, exit_code = ?, signal = ?,"
    " duration_ms = ?, cpu_seconds = ?, max_rss_bytes = ?, spawn_seconds = ?, sandbox_level = ?, sandbox_backend = ?,"
    " limits = ?, outcome_sha256 = ?"
)
_RESULT_STREAMS: Final = (
    ", stdout_bytes = ?, stderr_bytes = ?, stdout_truncated = ?, stderr_truncated = ?, stdout = ?, stderr = ?"
)
# A command that was to be cancelled and failed first was cancelled all the same.
_END_TASK: Final = (
    "UPDATE tasks SET"
    " status = CASE WHEN ? = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE ? END,"
    " failure_reason = CASE WHEN ? = 'failed' AND cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE ? END,"
    " assigned_at = NULL, completed_at = ?, started_at = COALESCE(started_at, ?), exit_code = ?,"
    " duration_ms = ?, failures = failures + ?"
)
_TASK_STREAMS: Final = ", stdout = ?, stderr = ?, stdout_truncated = ?, stderr_truncated = ?"
_OF_LIVE_TASK: Final = " WHERE id = ? AND attempt = ? AND assigned_at IS NOT NULL"
# As text: the driver would make a moment of it in ten times the time that the statement takes.
_WAITED_SINCE: Final = "CAST(available_at AS TEXT)"


@cache
def _end_result(*, has_streams: bool, is_unstarted: bool) -> str:
    """Return the statement that ends an attempt: one that is live, or only one that was not told to run."""
    streams = _RESULT_STREAMS if has_streams else ""
    state = "= 'assigned'" if is_unstarted else "<> 'ended'"
    return f"{_END_RESULT}{streams} WHERE attempt_id = ? AND state {state}"


@cache
def _end_task(*, has_streams: bool, is_unstarted: bool) -> str:
    """Return the statement that ends the task of such an attempt, and gives back what is measured."""
    streams = _TASK_STREAMS if has_streams else ""
    rest = f" AND status = 'queued' RETURNING status, {_WAITED_SINCE}" if is_unstarted else " RETURNING status"
    return f"{_END_TASK}{streams}{_OF_LIVE_TASK}{rest}"


_MAX_KNOWN_LIMITS: Final = 16
_NOTHING: Final = CapturedOutput()
"""What most commands write."""
_NOTHING_TOLD: Final = CapturedOutput(data=None)
_DIGEST_OF_NOTHING: Final = sha256(b"").digest()
_encoded: Final = msgspec.msgpack.Encoder().encode


_Streams = tuple[KeptStream, KeptStream]


class RecordGroup:
    """One transaction's worth of records being written. Make it within the transaction."""

    def __init__(self, now: datetime, blobs: Blobs) -> None:
        self.now = now
        self._blobs = blobs
        self._cursor = connection.connection.cursor()
        self.now_text = db_time(now)
        self.audit: list[AuditEvent] = []
        self.refused: set[AttemptKey] = set()
        self.measuring = Measuring()

    def write(self, records: Sequence[Any]) -> None:
        """Write the records and note their audit events."""
        with connection.wrap_database_errors:
            for start, item in _with_starts(records):
                self._write(item, start)

    def _write(self, item: Any, start: RecordStarted | None) -> None:
        match item:
            case RecordOutcome():
                self._outcome(item, start)
            case ClaimTask():
                self._claim(item)
            case RecordStarted():
                self._started(item)
            case RecordGivenUp():
                self._given_up(item)
            case RecordSuperseded():
                self._superseded(item)
            case _:
                self.audit += worker_records.write(item, self.now, self.measuring)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> int:
        return int(self._cursor.execute(sql, parameters).rowcount)

    def _returned(self, sql: str, parameters: Sequence[Any]) -> Any:
        """Return the one row that a statement gives back, None when it changed none."""
        return next(iter(self._cursor.execute(sql, parameters).fetchall()), None)

    def _claim(self, claim: ClaimTask) -> None:
        key = claim.key
        if not self._execute(_CLAIM, (self.now_text, key.number, claim.worker_id, key.task_id, key.number - 1)):
            self.refused.add(key)
            return
        self._execute(
            _BEGIN_RESULT,
            (key.attempt_id, key.task_id, key.number, claim.worker_id, self.now_text, b"", b""),
        )

    def _started(self, started: RecordStarted) -> None:
        key = started.key
        if not self._execute(_START_RESULT, (self.now_text, key.attempt_id)):
            return
        row = self._returned(_START_TASK, (self.now_text, key.task_id, key.number))
        if row is not None:
            self.measuring.started(row[0], self.now)
        self._tell_start(started)

    def _outcome(self, ended: RecordOutcome, start: RecordStarted | None) -> None:
        """Write an outcome; with the start of its attempt, where that is new, too, and each row once."""
        key, report = ended.key, ended.report
        outcome = _outcome_word(report)
        has_streams = bool(ended.stdout or ended.stderr) or report.stdout != _NOTHING or report.stderr != _NOTHING
        streams = self._streams(ended) if has_streams else None
        row = self._result_row(ended, outcome, streams)
        if start is not None and not self._execute(_end_result(has_streams=has_streams, is_unstarted=True), row):
            self._started(start)
            start = None
        if start is not None:
            self._tell_start(start)
        elif not self._execute(_end_result(has_streams=has_streams, is_unstarted=False), row):
            return
        self.measuring.outcome(outcome, report)
        write_outputs(key, report, self.now)
        reason = report.failure_reason.value if report.failure_reason else None
        if ended.retry_delay_s is not None:
            details = _outcome_details(key.number, outcome, report.exit_code, reason)
            self._requeue(key, ended.worker_id, ended.retry_delay_s, details, failures=1)
            return
        self._end_task(ended, outcome, streams, is_start=start is not None)
        finished = _finished_details(key.number, outcome, report.exit_code, reason)
        self.audit.append(AuditEvent("task_finished", "engine", ended.worker_id, key.task_id, finished))

    def _end_task(self, ended: RecordOutcome, outcome: str, streams: _Streams | None, *, is_start: bool) -> None:
        key, report = ended.key, ended.report
        reason = report.failure_reason
        row: tuple[Any, ...] = (
            outcome, outcome, outcome, reason.value if reason else None, self.now_text, self.now_text, report.exit_code,
            report.duration_ms, int(reason not in {None, FailureReason.CANCELLED}),
        )  # fmt: skip
        if streams is not None:
            stdout, stderr = streams
            row += (stdout.text, stderr.text, int(stdout.is_cut), int(stderr.is_cut))
        row += (key.task_id, key.number)
        has_streams = streams is not None
        found = None
        if is_start and (found := self._returned(_end_task(has_streams=has_streams, is_unstarted=True), row)):
            self.measuring.started(found[1], self.now)
        if found or (found := self._returned(_end_task(has_streams=has_streams, is_unstarted=False), row)):
            self.measuring.ended.append(found[0])

    def _given_up(self, given_up: RecordGivenUp) -> None:
        key = given_up.key
        outcome = "lost" if given_up.is_loss else "rejected"
        reason = given_up.failure_reason
        ended = self._execute(
            "UPDATE results SET state = 'ended', outcome = ?, failure_reason = ?, detail = ?, completed_at = ?"
            " WHERE attempt_id = ? AND state <> 'ended'",
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
            "UPDATE tasks SET status = ?, failure_reason = ?, assigned_at = NULL, completed_at = ?,"
            " losses = losses + ? WHERE id = ? AND attempt = ? AND assigned_at IS NOT NULL",
            [status, reason.value if reason else None, self.now_text, int(given_up.is_loss), key.task_id, key.number],
        ):
            self.measuring.ended.append(status)
        details["failure_reason"] = reason.value if reason else None
        self.audit.append(AuditEvent("task_finished", "engine", given_up.worker_id, key.task_id, details))

    def _superseded(self, late: RecordSuperseded) -> None:
        key, report = late.key, late.report
        digest = outcome_digest(report, late.stdout, late.stderr)
        known = self._returned("SELECT worker_id, outcome_sha256 FROM results WHERE attempt_id = ?", [key.attempt_id])
        worker_id, known_digest = known or ("", "")
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
            "UPDATE results SET is_superseded = ?, outcome_sha256 = ?, exit_code = ?, signal = ?, duration_ms = ?,"
            " cpu_seconds = ?, max_rss_bytes = ?, spawn_seconds = ?, stdout_bytes = ?, stderr_bytes = ?,"
            " stdout_truncated = ?, stderr_truncated = ?, stdout = ?, stderr = ? WHERE attempt_id = ? AND state = 'ended'",
            [
                True, digest, report.exit_code, report.signal, report.duration_ms,
                report.cpu_seconds, report.max_rss_bytes, report.spawn_seconds,
                report.stdout.total_bytes, report.stderr.total_bytes,
                report.stdout.is_truncated, report.stderr.is_truncated, stdout.data, stderr.data, key.attempt_id,
            ],
        )  # fmt: skip
        write_outputs(key, report, self.now)
        self.audit.append(AuditEvent("outcome_superseded", "engine", late.worker_id, key.task_id, details))

    def _streams(self, told: RecordOutcome | RecordSuperseded) -> _Streams:
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
            "assigned_at = NULL, worker_id = NULL, started_at = NULL, failures = failures + ?, losses = losses + ?"
            " WHERE id = ? AND attempt = ? AND assigned_at IS NOT NULL"
        )
        values = [failures, losses, key.task_id, key.number]
        available_at = db_time(self.now + timedelta(seconds=retry_delay_s))
        if self._execute(
            f"UPDATE tasks SET status = 'queued', available_at = ?, is_paused = ?, {ended} AND cancel_requested_at IS NULL",  # noqa: S608 - constant
            [available_at, int(retry_delay_s > 0), *values],
        ):
            details["retry_in_s"] = round(retry_delay_s, 3)
            self.audit.append(AuditEvent("task_requeued", "engine", worker_id, key.task_id, details))
        elif self._execute(
            "UPDATE tasks SET status = 'cancelled', failure_reason = 'cancelled', completed_at = ?,"  # noqa: S608 - constant
            f" {ended}",
            [self.now_text, *values],
        ):
            self.measuring.ended.append("cancelled")
            details["failure_reason"] = FailureReason.CANCELLED.value
            self.audit.append(AuditEvent("task_finished", "engine", worker_id, key.task_id, details))

    def _result_row(self, ended: RecordOutcome, outcome: str, streams: _Streams | None) -> Sequence[Any]:
        report = ended.report
        row: tuple[Any, ...] = (
            outcome, report.failure_reason.value if report.failure_reason else None, report.detail,
            self.now_text, self.now_text, report.exit_code, report.signal,
            report.duration_ms, report.cpu_seconds, report.max_rss_bytes, report.spawn_seconds,
            report.sandbox.value, report.backend, _limits_text(report.limits),
            outcome_digest(report, ended.stdout, ended.stderr),
        )  # fmt: skip
        if streams is not None:
            stdout, stderr = report.stdout, report.stderr
            row += (
                stdout.total_bytes, stderr.total_bytes, int(stdout.is_truncated), int(stderr.is_truncated),
                streams[0].data, streams[1].data,
            )  # fmt: skip
        return (*row, ended.key.attempt_id)

    def _tell_start(self, started: RecordStarted) -> None:
        key = started.key
        details = _started_details(key.number)
        self.audit.append(AuditEvent("task_started", "engine", started.worker_id, key.task_id, details))


def _with_starts(records: Sequence[Any]) -> list[tuple[RecordStarted | None, Any]]:
    """Return the records in order, but a start together with the outcome of its attempt, if nothing of it is between.

    Records of different attempts change different rows: only those of one attempt must keep their order.
    """
    paired: list[tuple[RecordStarted | None, Any] | None] = []
    starts: dict[AttemptKey, int] = {}
    for index, item in enumerate(records):
        start = None
        if isinstance(item, RecordStarted):
            starts[item.key] = index
        elif starts and (key := getattr(item, "key", None)) in starts:
            place = starts.pop(key)
            if isinstance(item, RecordOutcome) and item.retry_delay_s is None:
                start, paired[place] = records[place], None
        paired.append((start, item))
    return [pair for pair in paired if pair is not None]


# What most tasks have alike is written out once.
def _limits_text(limits: Mapping[str, Enforcement]) -> str:
    # What nobody would make up but to fill this memory is not kept.
    return _known_limits_text(tuple(limits.items())) if len(limits) <= _MAX_KNOWN_LIMITS else json.dumps(limits)


@lru_cache(64)
def _known_limits_text(limits: tuple[tuple[str, Enforcement], ...]) -> str:
    return json.dumps(dict(limits))


@lru_cache(64)
def _started_details(attempt: int) -> str:
    return as_json({"attempt": attempt})


@lru_cache(512)
def _finished_details(attempt: int, outcome: str, exit_code: int | None, reason: str | None) -> str:
    return as_json(_outcome_details(attempt, outcome, exit_code, reason))


def _outcome_details(attempt: int, outcome: str, exit_code: int | None, reason: str | None) -> dict[str, Any]:
    details: dict[str, Any] = {"attempt": attempt, "outcome": outcome, "exit_code": exit_code}
    return details if reason is None else {**details, "failure_reason": reason}


def _outcome_word(report: OutcomeReport) -> str:
    if report.failure_reason is None:
        return "completed"
    return "cancelled" if report.failure_reason is FailureReason.CANCELLED else "failed"


def outcome_digest(report: OutcomeReport, stdout: bytes, stderr: bytes) -> str:
    """Return what tells two outcomes of one attempt apart: SHA-256 over the report and both kept outputs.

    Whether the output came inside the report or in chunks is a matter of its size and makes no difference.
    """
    facts = msgspec.structs.replace(report, stdout=_without_data(report.stdout), stderr=_without_data(report.stderr))
    digests = [sha256(output).digest() if output else _DIGEST_OF_NOTHING for output in (stdout, stderr)]
    return sha256(b"".join([_encoded(facts), *digests])).hexdigest()


def _without_data(output: CapturedOutput) -> CapturedOutput:
    if output == _NOTHING:
        return _NOTHING_TOLD
    return output if output.data is None else msgspec.structs.replace(output, data=None)
