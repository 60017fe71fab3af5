"""Says why nothing runs, in the words of `octaskly why`, and what a submission warns of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from octaskly.command_line.show import tell

if TYPE_CHECKING:
    from octaskly.answers import Task, WaitingWorker, Why

QUIET_WAIT_S: Final = 3.0
"""Who waits for longer without a sign of life is told why."""
MOST_GROUPS: Final = 3
MOST_WARNINGS: Final = 5


def grouped(workers: Iterable[WaitingWorker]) -> list[tuple[str, str]]:
    """Return workers and reason, one pair for all workers with the same reason, in the order given."""
    names: dict[str, list[str]] = {}
    for worker in workers:
        names.setdefault(worker.reason, []).append(worker.name)
    return [(alike[0] if len(alike) == 1 else f"{len(alike)} workers", reason) for reason, alike in names.items()]


def reasons(why: Why) -> str:
    """Return what stands against the workers, or that there is none."""
    groups = grouped(why.workers)
    said = [f"{who}: {reason}" for who, reason in groups[:MOST_GROUPS]]
    if len(groups) > MOST_GROUPS:
        said.append(f"and {len(groups) - MOST_GROUPS} more reasons")
    return "; ".join(said) or why.message.rstrip(".")


def sentence(why: Why, task_id: str) -> str:
    """Return all that is to be said, for a task that waits."""
    return f"Nothing runs yet: {reasons(why)}. Look: octaskly why {task_id}"


class Warner:
    """Tells each warning of submitted tasks once, and of many the first."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    @property
    def has_told(self) -> bool:
        """Return whether it was said already why nothing will run."""
        return bool(self._told)

    def tell(self, tasks: Iterable[Task]) -> None:
        """Say on stderr what these tasks were answered with."""
        for task in tasks:
            for text in task.warnings:
                if text not in self._told and len(self._told) < MOST_WARNINGS:
                    self._told.add(text)
                    tell(f"Warning: {text} Look: octaskly why {task.id}")
