"""How an attempt ends other than by its outcome: lost with its worker, or handed back unrun. Pure."""

from __future__ import annotations

import heapq
import zlib

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey, Effect, RecordGivenUp, SuspendWorker
from dispatcher.core.state import DispatcherState, LiveAttempt
from octaskly_wire.vocabulary import Admission, FailureReason


def lose(state: DispatcherState, config: EngineConfig, attempt: LiveAttempt, detail: str, now: float) -> list[Effect]:
    """End an attempt whose worker was lost: the worker is charged, the task runs again or fails as poison."""
    worker = state.workers[attempt.worker_id]
    is_approved = worker.admission is Admission.APPROVED
    delay_s, reason = None, FailureReason.CANCELLED
    if not attempt.is_cancel_requested:
        delay_s = config.retry.after_loss(attempt.task.losses + 1, jitter(attempt.key))
        reason = FailureReason.WORKER_LOST
    end(state, attempt, delay_s, now)
    given_up = RecordGivenUp(attempt.key, attempt.worker_id, True, detail, delay_s, reason if delay_s is None else None)
    effects: list[Effect] = [given_up]
    if is_approved:
        effects += charge(state, config, attempt.worker_id, detail, now)
    return effects


def give_back(state: DispatcherState, attempt: LiveAttempt, detail: str, delay_s: float, now: float) -> list[Effect]:
    """Queue a task again that nobody is to blame for; a wished-for cancel ends it instead."""
    is_over = attempt.is_cancel_requested
    end(state, attempt, None if is_over else delay_s, now)
    reason = FailureReason.CANCELLED if is_over else None
    return [RecordGivenUp(attempt.key, attempt.worker_id, False, detail, None if is_over else delay_s, reason)]


def charge(state: DispatcherState, config: EngineConfig, worker_id: str, detail: str, now: float) -> list[Effect]:
    """Count a failure against a worker; suspend it when there were too many."""
    if not state.failures.note(worker_id, now, config):
        return []
    minutes = config.worker_failure_window_s / 60
    text = f"{config.max_worker_failures} failures within {minutes:g} minutes, the last: {detail}"
    return [SuspendWorker(worker_id, text)]


def end(state: DispatcherState, attempt: LiveAttempt, retry_delay_s: float | None, now: float) -> None:
    """Forget the attempt and remember when its task is due again; None means never."""
    state.end_attempt(attempt)
    if retry_delay_s is None:
        return
    if retry_delay_s > 0:
        heapq.heappush(state.wake_ups, (now + retry_delay_s, attempt.task.task_class))
    else:
        state.classes_to_fetch.add(attempt.task.task_class)


def jitter(key: AttemptKey) -> float:
    """Return a number in [0, 1) that differs between attempts, without randomness in the core."""
    return zlib.crc32(key.attempt_id.encode()) / 2**32
