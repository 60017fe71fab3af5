"""Which files a worker may fetch and store: those of attempts that are live on it, and no others. Pure.

Each question is answered by the objection in plain words, or None when there is none.
"""

from __future__ import annotations

from dispatcher.core.state import DispatcherState
from octaskly_wire.vocabulary import Admission


def objection_to_link(state: DispatcherState, worker_id: str, boot_id: str) -> str | None:
    """Return why this worker may have no link for transfers."""
    worker = state.workers.get(worker_id)
    if worker is None or worker.link_id is None:
        return "the worker has no control link"
    if worker.boot_id != boot_id:
        return "the control link is of another start of the worker"
    if worker.admission is not Admission.APPROVED:
        return f"the worker is {worker.admission.value}"
    return None


def objection_to_store(state: DispatcherState, worker_id: str, attempt_id: str) -> str | None:
    """Return why this worker may not store an output of this attempt."""
    if state.find_attempt(attempt_id, worker_id) is None:
        return f"the attempt {attempt_id} is not live on this worker"
    return None


def objection_to_fetch(state: DispatcherState, worker_id: str, attempt_id: str, sha256: str) -> str | None:
    """Return why this worker may not fetch this content for this attempt."""
    attempt = state.find_attempt(attempt_id, worker_id)
    if attempt is None:
        return objection_to_store(state, worker_id, attempt_id)
    if all(wanted.sha256 != sha256 for wanted in attempt.task.inputs):
        return f"the content {sha256} is no input of the attempt {attempt_id}"
    return None
