"""Attempts that this worker will not run go back to the dispatcher, which charges nobody for them. Pure."""

from __future__ import annotations

from octaskly_wire.messages import AttemptRejected
from octaskly_wire.vocabulary import RejectionReason
from worker_node.core.effects import Effect, Send
from worker_node.core.state import WorkerState


def reject(state: WorkerState, attempt_id: str, reason: RejectionReason, detail: str) -> list[Effect]:
    """Hand one attempt back, now or with the next link."""
    rejection = AttemptRejected(attempt_id, reason, detail)
    if not state.is_linked:
        state.rejected[attempt_id] = rejection
        return []
    return [Send(rejection)]


def hand_back_waiting(state: WorkerState, reason: RejectionReason, detail: str) -> list[Effect]:
    """Hand back all that was assigned beyond the slots."""
    waiting = list(state.waiting)
    state.waiting.clear()
    return [effect for attempt_id in waiting for effect in reject(state, attempt_id, reason, detail)]


def on_patience_over(state: WorkerState, now: float) -> list[Effect]:
    """Hand back what waits when the first of it has waited too long: those behind it would wait longer still."""
    ends_at = state.patience_ends_at
    if ends_at is None or now < ends_at:
        return []
    return hand_back_waiting(state, RejectionReason.NO_FREE_SLOT, "no slot became free in time")


def objection_to_all(state: WorkerState) -> tuple[RejectionReason, str]:
    """Return why nothing new is taken."""
    if state.is_draining or state.is_stopping:
        return RejectionReason.DRAINING, "this worker is draining"
    return RejectionReason.DISK_FULL, state.pause_reason
