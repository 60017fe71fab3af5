"""What one commit of the engine's records tells whoever measures; gathered while it is written, frozen afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from octaskly_wire.messages import OutcomeReport


class MeasuredOutcome(msgspec.Struct, frozen=True, gc=False):
    """An outcome that was taken as its attempt's own."""

    outcome: str
    """completed, failed or cancelled."""
    failure_reason: str
    """Empty when it completed."""
    run_seconds: float
    spawn_seconds: float | None
    """None when the command never began, or its worker did not say."""
    sandbox: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One committed group. Durations are seconds by the clock of whoever measured them."""

    commit_seconds: float
    """From the wish to begin the transaction, through the wait for the lock, to the end of the commit."""
    records: int
    queue_wait_seconds: tuple[float, ...]
    """Of each attempt whose start was recorded, from the moment its task might run."""
    outcomes: tuple[MeasuredOutcome, ...]
    given_up: tuple[tuple[str, str], ...]
    """Attempts that ended without an outcome: (lost or rejected, failure reason or empty)."""
    ended: tuple[str, ...]
    """The status of each task that ended."""
    round_trip_seconds: tuple[float, ...]
    """Of heartbeats, as workers told them."""


@dataclass(slots=True)
class Measuring:
    """What has been gathered of a group that is being written."""

    queue_wait_seconds: list[float] = field(default_factory=list)
    outcomes: list[MeasuredOutcome] = field(default_factory=list)
    given_up: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    round_trip_seconds: list[float] = field(default_factory=list)

    def started(self, available_at: str, now: datetime) -> None:
        """Take a start, with the time from which its task might run as the database holds it: in UTC."""
        # The wall clock may have been set back.
        self.queue_wait_seconds.append(max((now - _moment(available_at)).total_seconds(), 0.0))

    def outcome(self, word: str, report: OutcomeReport) -> None:
        """Take an outcome."""
        reason = report.failure_reason.value if report.failure_reason else ""
        run_seconds = report.duration_ms / 1000
        self.outcomes.append(MeasuredOutcome(word, reason, run_seconds, report.spawn_seconds, report.sandbox.value))

    def frozen(self, commit_seconds: float, records: int) -> Measured:
        """Return it as announced."""
        return Measured(
            commit_seconds,
            records,
            tuple(self.queue_wait_seconds),
            tuple(self.outcomes),
            tuple(self.given_up),
            tuple(self.ended),
            tuple(self.round_trip_seconds),
        )


@lru_cache(64)  # Tasks that were submitted together have it alike.
def _moment(stored: str) -> datetime:
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)
