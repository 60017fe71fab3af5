"""Says why nothing runs, in the words of `octaskly why`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from octaskly.answers import Why

QUIET_WAIT_S: Final = 3.0
"""Who waits for longer without a sign of life is told why."""
MOST_WORKERS: Final = 3


def reasons(why: Why) -> str:
    """Return what stands against each worker, or that there is none."""
    named = [f"{worker.name} {worker.reason}" for worker in why.workers[:MOST_WORKERS]]
    if len(why.workers) > MOST_WORKERS:
        named.append(f"and {len(why.workers) - MOST_WORKERS} more workers")
    return "; ".join(named) or why.message.rstrip(".")


def sentence(why: Why, task_id: str) -> str:
    """Return all that is to be said, for a task that waits."""
    return f"Nothing runs yet: {reasons(why)}. Look: octaskly why {task_id}"
