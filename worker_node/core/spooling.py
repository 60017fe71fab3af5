"""Which outcomes go to disk and when, and what a full disk means for new work. Pure.

An outcome is sent at once when a link stands. It is spooled when it is not acknowledged promptly, or when there
is no link to send it over: what the dispatcher commits within a moment never touches this disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from octaskly_wire.messages import WorkPaused, WorkResumed
from worker_node.core.effects import Effect, ForgetOutcome, ReleaseContents, Send, SpoolOutcome
from worker_node.core.handing_back import hand_back_waiting, objection_to_all
from worker_node.core.outcome import Outcome
from worker_node.core.state import FinishedAttempt, WorkerState

SPOOL_AFTER_S: Final = 0.1
"""An acknowledgement takes a commit and a round trip: a few milliseconds when all is well."""

MAX_REASON: Final = 4096
"""Characters that a message has room for."""

RETRY_S: Final = 1.0
"""Pause before a failed write is tried again."""


def on_spool_loaded(state: WorkerState, outcomes: Mapping[str, Outcome]) -> list[Effect]:
    """Take over what an earlier life of this worker left; before any link."""
    for attempt_id, outcome in outcomes.items():
        state.finished[attempt_id] = FinishedAttempt(outcome, 0.0, is_spooled=True)
    return []


def on_spool_due(state: WorkerState, now: float) -> list[Effect]:
    """Spool what waits for its acknowledgement too long, and try again what failed."""
    due = []
    for attempt_id, kept in state.finished.items():
        if kept.failed_at is not None:
            is_due = now - kept.failed_at >= RETRY_S
        else:
            is_due = not state.is_linked or now - kept.finished_at >= SPOOL_AFTER_S
        if is_due:
            due.append(attempt_id)
    return spool(state, due)


def on_spooled(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Note that an outcome is on disk."""
    if kept := state.finished.get(attempt_id):
        kept.is_spooled, kept.is_spooling, kept.failed_at = True, False, None
    return settle_pause(state)


def on_spool_failed(state: WorkerState, attempt_id: str, detail: str, now: float) -> list[Effect]:
    """Keep the outcome in memory and take nothing new until it can be written or is acknowledged."""
    if kept := state.finished.get(attempt_id):
        kept.is_spooling, kept.failed_at = False, now
        state.spool_failure = detail
    return settle_pause(state)


def on_disk_checked(state: WorkerState, shortage: str) -> list[Effect]:
    """Note whether the disk has room."""
    state.disk_shortage = shortage
    return settle_pause(state)


def spool(state: WorkerState, attempt_ids: Iterable[str]) -> list[Effect]:
    """Order the writing of these outcomes, where it is not done or under way."""
    effects: list[Effect] = []
    for attempt_id in attempt_ids:
        kept = state.finished[attempt_id]
        if not (kept.is_spooled or kept.is_spooling):
            kept.is_spooling = True
            effects.append(SpoolOutcome(attempt_id, kept.outcome))
    return effects


def forget(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Drop an outcome that nobody waits for any more."""
    kept = state.finished.pop(attempt_id, None)
    if kept is None:
        return []
    effects: list[Effect] = []
    if kept.is_spooled or kept.is_spooling:
        effects.append(ForgetOutcome(attempt_id))
    if kept.outcome.contents:
        effects.append(ReleaseContents(attempt_id))
    return effects + settle_pause(state)


def settle_pause(state: WorkerState) -> list[Effect]:
    """Begin or end the pause; what waits for a slot is handed back when it begins."""
    failure = state.spool_failure
    if failure and all(kept.failed_at is None for kept in state.finished.values()):
        failure = state.spool_failure = ""
    reason = (state.disk_shortage or failure)[:MAX_REASON]
    if bool(reason) == bool(state.pause_reason):
        return []
    state.pause_reason = reason
    # Without a link nothing is told: Register is followed by it.
    word = [Send(WorkPaused(reason) if reason else WorkResumed())] if state.is_linked else []
    return [*word, *(hand_back_waiting(state, *objection_to_all(state)) if reason else [])]
