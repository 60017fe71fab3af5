"""Tasks and workers as placement sees them, read from the database; and what is foreseen of tasks as they come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from dispatcher.ports import Prospects, TaskNeeds, WorkerView
from octaskly_wire.messages import Limits, UnprovenLevel
from octaskly_wire.vocabulary import Admission, SandboxLevel
from tasks_app.models import Task
from tasks_app.new_tasks import NewTask
from tasks_app.selectors import live_attempts_by_worker
from workers_app.models import Worker
from workers_app.selectors import is_draining

PROSPECTS_AGE_S: Final = 2.0
"""Workers are looked at anew after that: hundreds of submissions a second share one look."""


def needs_of(task: Task | NewTask) -> TaskNeeds:
    """Return what a task asks of its worker."""
    limits = msgspec.convert(task.limits, Limits)
    return TaskNeeds(SandboxLevel(task.sandbox), task.network, limits, task.timeout_s)


def worker_views(*, for_operators: bool) -> list[WorkerView]:
    """Return all workers that were not revoked. What operators wrote of them is for operators only."""
    live = live_attempts_by_worker()
    now = datetime.now(UTC)
    workers = Worker.objects.exclude(admission=Admission.REVOKED.value)
    views = (_view(worker, live.get(worker.id, 0), now) for worker in workers)
    return [view if for_operators else replace(view, admission_reason="") for view in views]


def _view(worker: Worker, live_attempts: int, now: datetime) -> WorkerView:
    caps = dict(worker.max_limits)
    max_timeout_s = caps.pop("timeout_s", None)
    free_bytes = worker.vitals.get("memory_available_bytes") if worker.is_connected else None
    return WorkerView(
        worker_id=worker.id,
        name=worker.name,
        admission=Admission(worker.admission),
        is_connected=worker.is_connected,
        is_draining=is_draining(worker),
        levels=frozenset(SandboxLevel(proof["level"]) for proof in worker.levels),
        allows_network=worker.allows_network,
        memory_mb=worker.memory_total_bytes >> 20,
        slots=worker.slots,
        live_attempts=live_attempts,
        pause_reason=worker.pause_reason,
        max_limits=msgspec.convert(caps, Limits),
        max_timeout_s=max_timeout_s,
        unproven=msgspec.convert(worker.levels_unproven, list[UnprovenLevel]),
        admission_reason=worker.admission_reason,
        last_seen_ago_s=(now - worker.last_seen_at).total_seconds() if worker.last_seen_at else None,
        free_memory_mb=None if free_bytes is None else int(free_bytes) >> 20,
    )


class RecentProspects:
    """Prospects that are at most so old."""

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._looking = threading.Lock()
        self._found: Prospects | None = None
        self._looked_at = 0.0

    def get(self) -> Prospects:
        """Return them, after a look at the workers if the last one is too long ago."""
        with self._looking:
            if self._found is None or time.monotonic() - self._looked_at > self._max_age_s:
                self._found = Prospects(worker_views(for_operators=False))
                self._looked_at = time.monotonic()
            return self._found

    def forget(self) -> None:
        """Look at the workers again the next time."""
        self._found = None


recent_prospects: Final = RecentProspects(PROSPECTS_AGE_S)


def warnings_of(tasks: Sequence[Task | NewTask]) -> list[list[str]]:
    """Return for each task that was submitted just now what nobody else would say before long: that nothing can run it.

    It is looked up once for each distinct need.
    """
    prospects = recent_prospects.get()
    found: dict[object, list[str]] = {}
    warnings = []
    for task in tasks:
        asked = (task.sandbox, task.network, task.timeout_s, *task.limits.items())
        if asked not in found:
            text = prospects.warning(needs_of(task))
            found[asked] = [text] if text else []
        warnings.append(found[asked])
    return warnings
