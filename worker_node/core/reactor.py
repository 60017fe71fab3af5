"""What happens when something happens: `on_<event>(state, ..., now) -> list[Effect]`. Pure.

Theory of operation. An attempt comes by AssignAttempt, waits a moment if all slots are taken, runs, and ends as an
Outcome that is kept, on disk if need be, until the dispatcher says that it is committed. The link may come and go meanwhile: on
each new link Register names everything in hand, finished outcomes are sent again, and the dispatcher adopts,
cancels or acknowledges each. Messages made while no link stands are dropped, because the inventory of the
next Register says the same; only rejections are kept, since nothing else tells them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from octaskly_wire.messages import (
    AdmissionChanged,
    AssignAttempt,
    AttemptStarted,
    CancelAttempt,
    DrainStarted,
    Heartbeat,
    OutcomeRefused,
    Refused,
    Register,
    Vitals,
    Welcome,
    WorkPaused,
)
from octaskly_wire.vocabulary import Admission, FailureReason, RejectionReason
from worker_node.core.delivery import deliver
from worker_node.core.effects import CloseLink, Effect, LeaveForGood, ReleaseContents, Send, StartCommand, StopCommand
from worker_node.core.handing_back import hand_back_waiting, objection_to_all, reject
from worker_node.core.outcome import Outcome, never_ran
from worker_node.core.spooling import forget, spool
from worker_node.core.state import FinishedAttempt, RunningAttempt, WaitingAttempt, WorkerState

MISSED_ACKS: Final = 3
"""Heartbeat intervals without an answer after which the link is dead."""


# --- attempts ----------------------------------------------------------------------------------------


def on_assign(state: WorkerState, assignment: AssignAttempt, now: float) -> list[Effect]:
    """Take an attempt: start it, let it wait, or hand it back. One that is in hand already stays as it is."""
    attempt_id = assignment.attempt_id
    if attempt_id in state.finished:
        return deliver(state, attempt_id)
    if attempt_id in state.running or attempt_id in state.waiting:
        return []
    if not state.takes_work:
        return reject(state, attempt_id, *objection_to_all(state))
    if objection := state.offer.objection_to(assignment):
        return reject(state, attempt_id, *objection)
    if len(state.running) >= state.offer.slots and len(state.waiting) >= state.max_waiting:
        return reject(state, attempt_id, RejectionReason.NO_FREE_SLOT, "all slots are taken")
    state.waiting[attempt_id] = WaitingAttempt(assignment, now, state.offer)
    return _fill_slots(state)


def on_cancel(state: WorkerState, order: CancelAttempt, now: float) -> list[Effect]:
    """Kill a command, or forget what is wanted no more."""
    attempt_id = order.attempt_id
    if running := state.running.get(attempt_id):
        running.is_discarded |= order.discard
        if running.is_stopping and not order.discard:
            return []
        running.is_stopping = True
        # Nobody waits for a discarded attempt's last words: its slot is worth more than its grace.
        return [StopCommand(attempt_id, at_once=order.discard)]
    effects = forget(state, attempt_id) if order.discard else []
    waiting = state.waiting.pop(attempt_id, None)
    if waiting is None or order.discard:
        return effects
    return _cancelled_while_waiting(state, waiting.assignment, now)


def on_process_started(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Tell that the command runs."""
    running = state.running.get(attempt_id)
    if running is None:
        return []
    running.is_started = True
    return _send(state, Send(AttemptStarted(attempt_id)))


def on_process_exited(state: WorkerState, attempt_id: str, outcome: Outcome, now: float) -> list[Effect]:
    """Keep the outcome until it is acknowledged, and give the slot to the next."""
    running = state.running.pop(attempt_id, None)
    effects = _fill_slots(state)
    if running is None or running.is_discarded:
        return [*effects, ReleaseContents(attempt_id)] if outcome.contents else effects
    return _finish(state, attempt_id, outcome, now) + effects


def on_process_refused(state: WorkerState, attempt_id: str, reason: RejectionReason, detail: str) -> list[Effect]:
    """Hand an attempt back whose command could not be started as promised."""
    running = state.running.pop(attempt_id, None)
    effects = _fill_slots(state)
    if running is None or running.is_discarded:
        return effects
    return reject(state, attempt_id, reason, detail[:4096]) + effects


def on_acknowledged(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Forget a committed outcome."""
    return forget(state, attempt_id)


def on_outcome_refused(state: WorkerState, refusal: OutcomeRefused) -> list[Effect]:
    """Forget an outcome that the dispatcher will never take."""
    return forget(state, refusal.attempt_id)


# --- the link ----------------------------------------------------------------------------------------


def on_link_up(state: WorkerState, welcome: Welcome, now: float) -> list[Effect]:
    """Present this worker with all it has in hand."""
    state.is_linked = True
    state.admission = welcome.admission
    state.heartbeat_interval_s = welcome.heartbeat_interval_s
    state.heard_at = now
    # What the last link left unanswered, or how fast it was, says nothing of this one.
    state.unanswered.clear()
    state.round_trip_s = None
    # The dispatcher's wish to drain is told anew on each link; our own is not taken back.
    state.is_draining = False
    offer = state.offer
    register = Register(
        name=offer.name,
        slots=offer.slots,
        levels=list(offer.proofs),
        allows_network=offer.allows_network,
        is_draining=state.is_stopping,
        platform=offer.platform,
        cpu_count=offer.cpu_count,
        memory_total_bytes=offer.memory_total_bytes,
        held=state.held(),
        max_limits=offer.max_limits,
        max_timeout_s=offer.max_timeout_s,
        unproven=list(offer.unproven),
        witnessed=state.witnessed,
    )
    effects: list[Effect] = [Send(register)]
    if state.pause_reason:
        effects.append(Send(WorkPaused(state.pause_reason)))
    effects += [Send(rejected) for rejected in state.rejected.values()]
    for attempt_id in state.finished:
        effects += deliver(state, attempt_id)
    state.rejected.clear()
    return effects


def on_link_lost(state: WorkerState) -> list[Effect]:
    """Go on running: the attempts are told again on the next link."""
    state.is_linked = False
    for kept in state.finished.values():
        kept.is_stored = False
    return spool(state, list(state.finished))


def on_heartbeat_due(state: WorkerState, vitals: Vitals, now: float) -> list[Effect]:
    """Prove to be alive and renew the leases; give the link up when the dispatcher fell silent."""
    if not state.is_linked:
        return []
    silence_s = now - state.heard_at
    if silence_s > MISSED_ACKS * state.heartbeat_interval_s:
        return [CloseLink(f"no answer to heartbeats for {silence_s:.0f} s")]
    state.heartbeat_sequence += 1
    state.unanswered[state.heartbeat_sequence] = now
    vitals = msgspec.structs.replace(vitals, round_trip_seconds=state.round_trip_s)
    state.round_trip_s = None
    held = [attempt.attempt_id for attempt in state.held()]
    return [Send(Heartbeat(state.heartbeat_sequence, vitals, held))]


def on_heartbeat_acknowledged(state: WorkerState, sequence: int, now: float) -> list[Effect]:
    """Note that the dispatcher lives, and how long its answer took."""
    state.heard_at = now
    if (sent_at := state.unanswered.pop(sequence, None)) is not None:
        state.round_trip_s = max(now - sent_at, 0.0)
    # Answers come in order: one that is older still and has none will get none.
    state.unanswered = {later: at for later, at in state.unanswered.items() if later > sequence}
    return []


def on_admission_changed(state: WorkerState, change: AdmissionChanged) -> list[Effect]:
    """Follow the whitelist: a revoked worker stops everything and leaves."""
    state.admission = change.admission
    if change.admission is Admission.REVOKED:
        return [LeaveForGood(change.detail or "this worker was revoked")]
    return []


def on_refused(refusal: Refused) -> list[Effect]:
    """Leave for good or try again, as the dispatcher says."""
    reason = f"the dispatcher refused this worker ({refusal.code}): {refusal.detail}"
    return [LeaveForGood(reason) if refusal.is_final else CloseLink(reason)]


# --- draining ----------------------------------------------------------------------------------------


def on_drain(state: WorkerState) -> list[Effect]:
    """Take nothing new, because the dispatcher wishes so; what waits goes back."""
    state.is_draining = True
    return hand_back_waiting(state, *objection_to_all(state))


def on_resume(state: WorkerState) -> list[Effect]:
    """Take work again."""
    state.is_draining = False
    return []


def on_stop(state: WorkerState) -> list[Effect]:
    """Begin to end, because this machine's owner wishes so: finish what runs, take nothing new."""
    if state.is_stopping:
        return []
    state.is_stopping = True
    return _send(state, Send(DrainStarted())) + hand_back_waiting(state, *objection_to_all(state))


def on_drain_timeout(state: WorkerState) -> list[Effect]:
    """Stop what still runs; it is told as lost with the worker, so it runs again elsewhere."""
    effects: list[Effect] = []
    for attempt_id, running in state.running.items():
        running.is_stopping = True
        effects.append(StopCommand(attempt_id, at_once=True))
    return effects


# --- pieces ------------------------------------------------------------------------------------------


def _fill_slots(state: WorkerState) -> list[Effect]:
    effects: list[Effect] = []
    offer = state.offer
    while state.waiting and len(state.running) < offer.slots:
        waiting = state.waiting.pop(next(iter(state.waiting)))
        assignment = waiting.assignment
        # It was fine when it was taken; a level may have been lost since.
        if waiting.offer is not offer and (objection := offer.objection_to(assignment)):
            effects += reject(state, assignment.attempt_id, *objection)
            continue
        state.running[assignment.attempt_id] = RunningAttempt(assignment)
        effects.append(StartCommand(assignment, offer.backend_of(assignment.sandbox) or ""))
    return effects


def _finish(state: WorkerState, attempt_id: str, outcome: Outcome, now: float) -> list[Effect]:
    state.finished[attempt_id] = FinishedAttempt(outcome, now)
    return deliver(state, attempt_id) if state.is_linked else spool(state, [attempt_id])


def _cancelled_while_waiting(state: WorkerState, assignment: AssignAttempt, now: float) -> list[Effect]:
    backend = state.offer.backend_of(assignment.sandbox) or ""
    outcome = never_ran(FailureReason.CANCELLED, assignment.sandbox, backend, "cancelled before it started")
    return _finish(state, assignment.attempt_id, outcome, now)


def _send(state: WorkerState, effect: Effect) -> list[Effect]:
    return [effect] if state.is_linked else []
