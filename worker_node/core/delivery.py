"""Bring an outcome to the dispatcher: first the contents that it names, then itself. Pure.

Contents go over connections of their own, for as long as that takes and whatever becomes of the link meanwhile. The
attempt stays in hand until then, as any outcome that is not acknowledged. On each new link the dispatcher is asked
again for what it has, which costs a word when it has all.
"""

from __future__ import annotations

from typing import Final

from worker_node.core.effects import Effect, ReleaseContents, SendOutcome, StoreContents
from worker_node.core.spooling import spool
from worker_node.core.state import WorkerState

MAX_DETAIL: Final = 4096
"""Characters that a report has room for."""


def deliver(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Send an outcome over the link that stands, or its contents while the dispatcher may lack one."""
    kept = state.finished[attempt_id]
    contents = kept.outcome.contents
    if contents and not kept.is_stored:
        return [StoreContents(attempt_id, contents)]
    return [SendOutcome(attempt_id, kept.outcome)]


def on_contents_stored(state: WorkerState, attempt_id: str) -> list[Effect]:
    """Send the outcome whose contents have arrived."""
    kept = state.finished.get(attempt_id)
    if kept is None:
        return []
    kept.is_stored = True
    return [SendOutcome(attempt_id, kept.outcome)] if state.is_linked else []


def on_contents_refused(state: WorkerState, attempt_id: str, detail: str) -> list[Effect]:
    """Tell the attempt as a failure: its contents will never be taken, and somebody waits for word of it."""
    kept = state.finished.get(attempt_id)
    if kept is None:
        return []
    kept.outcome = kept.outcome.without_outputs(detail[:MAX_DETAIL])
    effects: list[Effect] = [ReleaseContents(attempt_id)]
    if kept.is_spooled or kept.is_spooling or not state.is_linked:
        # What is on the disk says something else.
        kept.is_spooled = kept.is_spooling = False
        effects += spool(state, [attempt_id])
    return effects + (deliver(state, attempt_id) if state.is_linked else [])
