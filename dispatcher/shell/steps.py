"""What the service has taken on and not carried out yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.core.effects import (
    AttemptKey,
    ClaimTask,
    Effect,
    FetchFitting,
    FetchReady,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
)

RECORDS: Final = (ClaimTask, RecordStarted, RecordOutcome, RecordGivenUp, RecordSuperseded, SuspendWorker)
FETCHES: Final = (FetchReady, FetchFitting)
_OUTCOMES: Final = (RecordOutcome, RecordSuperseded)


@dataclass(frozen=True, slots=True)
class Step:
    """Effects to carry out once their records, if there are any, and all steps before them are committed."""

    commit: asyncio.Future[frozenset[AttemptKey]] | None
    effects: Sequence[Effect]
    output_bytes: int


def output_bytes(records: Sequence[Effect]) -> int:
    """Return how much output of commands the records hold."""
    return sum(len(record.stdout) + len(record.stderr) for record in records if isinstance(record, _OUTCOMES))
