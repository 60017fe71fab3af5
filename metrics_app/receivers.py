"""Carries what tasks_app announces into histograms, counters and the tally. Runs on the announcer's thread."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Final

from metrics_app import instruments
from metrics_app.tally import Happened, tally
from tasks_app import signals
from tasks_app.measured import Measured

# Looking a label up takes longer than counting.
_run_of: Final = cache(instruments.RUN.labels)
_spawn_of: Final = cache(instruments.SPAWN.labels)


def connect() -> None:
    """Listen; once is enough."""
    signals.records_committed.connect(on_records_committed, dispatch_uid="metrics")
    signals.waiting_ended.connect(on_waiting_ended, dispatch_uid="metrics")


def on_records_committed(measured: Measured, **_: object) -> None:
    """Take what a commit of the engine measured."""
    instruments.COMMIT.observe(measured.commit_seconds)
    instruments.COMMIT_RECORDS.observe(measured.records)
    for wait_s in measured.queue_wait_seconds:
        instruments.QUEUE_WAIT.observe(wait_s)
    for ended in measured.outcomes:
        _run_of(ended.outcome).observe(ended.run_seconds)
        if ended.spawn_seconds is not None:
            _spawn_of(ended.sandbox).observe(ended.spawn_seconds)
    attempts = Counter((ended.outcome, ended.failure_reason) for ended in measured.outcomes)
    attempts.update(measured.given_up)
    for labels, count in attempts.items():
        instruments.ATTEMPTS.labels(*labels).inc(count)
    for round_trip_s in measured.round_trip_seconds:
        instruments.ROUND_TRIP.observe(round_trip_s)
    tally.note(
        Happened(
            ended=Counter(measured.ended),
            commits=1,
            commit_seconds=measured.commit_seconds,
            starts=len(measured.queue_wait_seconds),
            queue_wait_seconds=sum(measured.queue_wait_seconds),
        )
    )


def on_waiting_ended(status: str, count: int, **_: object) -> None:
    """Count tasks that ended without an attempt."""
    tally.note(Happened(ended=Counter({status: count})))
