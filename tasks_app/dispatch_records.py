"""Writes the engine's records within one transaction. The hot path to the tables.

Every change of an attempt is a compare-and-set on the attempt's own row, so that a late or doubled record
changes nothing. One cursor of the driver serves all of a transaction: what Django puts around each statement costs
more than the statement. So the marks for values are SQLite's; the statements themselves are PostgreSQL's, too. Claims
and ends, which nearly all records are, gather until something else comes, and change their rows many at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from django.db import connection

from accounts_app.many_rows import Row, Update
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
from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import Enforcement, FailureReason
from tasks_app import worker_records
from tasks_app.attempt_statements import (
    BEGIN_RESULT,
    CLAIM,
    START_RESULT,
    START_TASK,
    end_result,
    end_task,
)
from tasks_app.measured import Measuring
from tasks_app.outcome_digest import NOTHING, outcome_digest
from tasks_app.output_records import KeptStream, kept_stream, write_outputs

_USUAL: Final = (ClaimTask, RecordStarted, RecordOutcome)
"""What most records are."""
_MAX_KNOWN_LIMITS: Final = 16

_Streams = tuple[KeptStream, KeptStream]
_Part = tuple[Update, Row, Row]
"""A row to be updated: by which statement, its values that others share, and those of its own."""


class _End(msgspec.Struct, frozen=True, gc=False):
    """An outcome that is to be written."""

    told: RecordOutcome
    has_start: bool
    """Whether the start of its attempt is new, too."""
    outcome: str
    streams: _Streams | None

    @property
    def task_id(self) -> str:
        """Return the task whose attempt ended: it is the only end of that task that is to be written."""
        return self.told.key.task_id


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
        self._claims: list[ClaimTask] = []
        self._ends: list[_End] = []
        self._gathered: set[str] = set()
        """The tasks of the claims and ends that are to be written together."""

    def write(self, records: Sequence[Any]) -> None:
        """Write the records and note their audit events."""
        with connection.wrap_database_errors:
            for start, item in _with_starts(records):
                # Of one task all is written in order; of different ones what most records are may change places.
                if not isinstance(item, _USUAL) or item.key.task_id in self._gathered:
                    self._write_gathered()
                self._write(item, start)
            self._write_gathered()

    def _write(self, item: Any, start: RecordStarted | None) -> None:
        match item:
            case RecordOutcome():
                self._outcome(item, has_start=start is not None)
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

    def _write_gathered(self) -> None:
        if self._claims:
            self._write_claims()
        if self._ends:
            self._write_ends()
        self._gathered.clear()

    def _claim(self, claim: ClaimTask) -> None:
        self._claims.append(claim)
        self._gathered.add(claim.key.task_id)

    def _write_claims(self) -> None:
        claims, self._claims = self._claims, []
        rows = [(claim.key.task_id, claim.key.number, claim.worker_id) for claim in claims]
        granted = {task_id for (task_id,) in CLAIM.run(self._cursor, rows, (self.now_text,))}
        begun = []
        for claim in claims:
            key = claim.key
            if key.task_id in granted:
                begun.append((key.attempt_id, key.task_id, key.number, claim.worker_id))
            else:
                self.refused.add(key)
        BEGIN_RESULT.run(self._cursor, begun, (self.now_text, b"", b""))

    def _started(self, started: RecordStarted) -> None:
        key = started.key
        if not self._execute(START_RESULT, (self.now_text, key.attempt_id)):
            return
        row = self._returned(START_TASK, (self.now_text, key.task_id, key.number))
        if row is not None:
            self.measuring.started(row[0], self.now)
        self._tell_start(key, started.worker_id)

    def _outcome(self, told: RecordOutcome, *, has_start: bool) -> None:
        report = told.report
        has_streams = bool(told.stdout or told.stderr) or report.stdout != NOTHING or report.stderr != NOTHING
        streams = self._streams(told) if has_streams else None
        self._ends.append(_End(told, has_start, _outcome_word(report), streams))
        self._gathered.add(told.key.task_id)

    def _write_ends(self) -> None:
        """Write outcomes; with the starts of their attempts, where those are new, too, and each row once."""
        ends, self._ends = self._ends, []
        begun = self._end_results([end for end in ends if end.has_start], is_unstarted=True)
        ended = begun | self._end_results([end for end in ends if end.task_id not in begun], is_unstarted=False)
        tasks = []
        for end in ends:
            if end.task_id not in ended:
                continue
            if end.task_id in begun:
                self._tell_start(end.told.key, end.told.worker_id)
            if self._tell_end(end):
                tasks.append(self._end_of_task(end))
        for task_id, status, waited_since in self._updated(tasks):
            self.measuring.ended.append(status)
            if task_id in begun:
                self.measuring.started(waited_since, self.now)

    def _end_results(self, ends: Sequence[_End], *, is_unstarted: bool) -> set[str]:
        """End these attempts, and return the tasks of those that were still live."""
        parts = [self._end_of_result(end, is_unstarted=is_unstarted) for end in ends]
        return {task_id for (task_id,) in self._updated(parts)}

    def _updated(self, parts: Sequence[_Part]) -> list[tuple[Any, ...]]:
        """Update rows, those together that share their values, and return what they give back."""
        together: dict[tuple[Update, Row], list[Row]] = {}
        for statement, shared, own in parts:
            together.setdefault((statement, shared), []).append(own)
        return [
            row for (statement, shared), some in together.items() for row in statement.run(self._cursor, some, shared)
        ]

    def _tell_end(self, end: _End) -> bool:
        """Note an end of an attempt, and return whether its task ends, too; queue that again if not."""
        told, report, key = end.told, end.told.report, end.told.key
        self.measuring.outcome(end.outcome, report)
        write_outputs(key, report, self.now)
        reason = report.failure_reason.value if report.failure_reason else None
        if told.retry_delay_s is not None:
            details = _outcome_details(key.number, end.outcome, report.exit_code, reason)
            self._requeue(key, told.worker_id, told.retry_delay_s, details, failures=1)
            return False
        finished = _finished_details(key.number, end.outcome, report.exit_code, reason)
        self.audit.append(AuditEvent("task_finished", "engine", told.worker_id, key.task_id, finished))
        return True

    def _end_of_task(self, end: _End) -> _Part:
        key, report, streams = end.told.key, end.told.report, end.streams
        reason = report.failure_reason
        failures = int(reason not in {None, FailureReason.CANCELLED})
        shared = (self.now_text, end.outcome, reason.value if reason else None, report.exit_code, failures)
        own: Row = (key.task_id, key.number, report.duration_ms)
        if streams is not None:
            stdout, stderr = streams
            own = (*own, stdout.text, stderr.text, int(stdout.is_cut), int(stderr.is_cut))
        return end_task(has_streams=streams is not None), shared, own

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

    def _end_of_result(self, end: _End, *, is_unstarted: bool) -> _Part:
        told, report, streams = end.told, end.told.report, end.streams
        shared = (
            self.now_text, end.outcome, report.failure_reason.value if report.failure_reason else None, report.detail,
            report.exit_code, report.signal, report.sandbox.value, report.backend, _limits_text(report.limits),
        )  # fmt: skip
        own: Row = (
            told.key.attempt_id, report.duration_ms, report.cpu_seconds, report.max_rss_bytes, report.spawn_seconds,
            outcome_digest(report, told.stdout, told.stderr),
        )  # fmt: skip
        if streams is not None:
            stdout, stderr = report.stdout, report.stderr
            own = (
                *own, stdout.total_bytes, stderr.total_bytes, int(stdout.is_truncated), int(stderr.is_truncated),
                streams[0].data, streams[1].data,
            )  # fmt: skip
        return end_result(has_streams=streams is not None, is_unstarted=is_unstarted), shared, own

    def _tell_start(self, key: AttemptKey, worker_id: str) -> None:
        details = _started_details(key.number)
        self.audit.append(AuditEvent("task_started", "engine", worker_id, key.task_id, details))


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
