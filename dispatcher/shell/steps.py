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
    Record,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
)

RECORDS: Final = frozenset({ClaimTask, RecordStarted, RecordOutcome, RecordGivenUp, RecordSuperseded, SuspendWorker})
FETCHES: Final = frozenset({FetchReady, FetchFitting})


@dataclass(slots=True)
class Step:
    """Effects to carry out once their records, if there are any, and all steps before them are committed."""

    commit: asyncio.Future[frozenset[AttemptKey]] | None
    effects: Sequence[Effect]
    output_bytes: int


def sorted_out(effects: Sequence[Effect]) -> tuple[list[Record], list[FetchReady | FetchFitting], int]:
    """Return the records and the looks among them, and how much output of commands the records hold."""
    records: list[Record] = []
    fetches: list[FetchReady | FetchFitting] = []
    output_bytes = 0
    for effect in effects:
        kind = type(effect)
        if kind in RECORDS:
            records.append(effect)  # type: ignore[arg-type]  # told by its kind: quicker than to ask for each in turn
            if kind is RecordOutcome or kind is RecordSuperseded:
                output_bytes += len(effect.stdout) + len(effect.stderr)  # type: ignore[union-attr]
        elif kind in FETCHES:
            fetches.append(effect)  # type: ignore[arg-type]
    return records, fetches, output_bytes
