"""Looks into the database for the live events: each reads all that one scope sees, through indexes only."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final, Protocol

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Substr

from audit_app.models import AuditEntry
from audit_app.words import describe
from dashboard_app.live import cards
from dashboard_app.live.scope import Scope
from metrics_app.machine import Machine
from metrics_app.selectors import latest_point, recent_rates
from octaskly_wire.vocabulary import Admission, SandboxLevel
from tasks_app import counts, selectors
from tasks_app.models import Task, TaskStatus
from tasks_app.transitions import ENDED
from workers_app.models import Worker
from workers_app.selectors import names_of_workers

MAX_LIVE: Final = 50
MAX_QUEUED: Final = 20
MAX_ENDED: Final = 30
MAX_CARDS: Final = 1000
FIRST_EVENTS: Final = 50
MAX_NEW_EVENTS: Final = 100
ENDINGS_READ: Final = 60
"""Of each kind: some of the tasks that ended last may have been queued again."""

# Spelled as the partial index tasks_ready is; with parameters SQLite would not use it.
_QUEUED_OF_CLASS: Final = (
    "SELECT priority, id FROM tasks"
    " WHERE status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL AND NOT is_paused"
    " AND sandbox = %s AND network = %s ORDER BY priority DESC, id LIMIT %s"
)
# Those that are tried again next, by tasks_paused; one that was cancelled meanwhile is shown as that.
_PAUSED: Final = "SELECT priority, id FROM tasks WHERE is_paused ORDER BY available_at LIMIT %s"
_COLUMNS: Final = (
    "id", "name", "status", "worker_id", "attempt", "created_at", "started_at", "completed_at", "exit_code",
    "duration_ms", "failure_reason", "cancel_requested_at", "priority", "timeout_s", "owner__username",
)  # fmt: skip
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Health(Protocol):
    """Whether the dispatcher takes work; `octaskly_site.status` is one."""

    def is_accepting(self) -> bool:
        """Return whether a task submitted now would be stored and run in time."""

    def read_only_reason(self) -> str | None:
        """Return in plain words why nothing can be stored now, None when it can."""


@dataclass(slots=True)
class Seen:
    """What one look has seen; what a scope may not see is None."""

    summary: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    workers: dict[str, dict[str, Any]] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    point: dict[str, Any] | None = None
    cost_s: float = 0.0
    """Processor time: on a busy machine the same look lasts longer, and costs no more."""


class Looker:
    """Looks for one scope, one look at a time; remembers what it has told already."""

    def __init__(self, scope: Scope, health: Health) -> None:
        self._scope = scope
        self._health = health
        self._machine = Machine()
        self._last_event_id = 0
        self._shown: list[str] = []

    def look(self) -> Seen:
        """Return what is to be seen now. Raises OperationalError while the database is busy."""
        began_s = time.thread_time()
        seen = self._look_at_all() if self._scope.owner_id is None else self._look_at_own(self._scope.owner_id)
        return replace(seen, cost_s=time.thread_time() - began_s)

    def _look_at_all(self) -> Seen:
        used = selectors.live_attempts_by_worker()
        ready = Worker.objects.filter(admission=Admission.APPROVED.value, is_connected=True)
        slots = dict(ready.values_list("id", "slots"))
        workers = Worker.objects.order_by("-is_connected", "name", "id")[:MAX_CARDS]
        entries = self._new_entries()
        seen = Seen(
            summary={
                "tasks": counts.of_all(),
                "workers": selectors.worker_counts(used),
                "slots": {
                    "used": sum(min(used.get(worker_id, 0), count) for worker_id, count in slots.items()),
                    "total": sum(slots.values()),
                },
                "rates": recent_rates(),
                "system": self._machine.read(),
                **self._health_now(),
            },
            tasks=_shown(_rows([*_live_ids(), *_queued_ids(), *_ended_ids()])),
            workers={worker.id: cards.worker_card(worker, used.get(worker.id, 0)) for worker in workers},
            events=_lines(entries),
            point=latest_point(),
        )
        if entries:
            self._last_event_id = entries[-1].id
        return seen

    def _look_at_own(self, owner_id: int) -> Seen:
        own = Task.objects.filter(owner_id=owner_id)
        ids = _own_ids(own)
        # What ended since the last look may be older than the newest that ended.
        tasks = _shown(_rows([*ids, *self._shown]))
        self._shown = list(tasks)
        return Seen(summary={"tasks": counts.of_owner(owner_id), **self._health_now()}, tasks=tasks)

    def _health_now(self) -> dict[str, Any]:
        return {
            "is_accepting": self._health.is_accepting(),
            "read_only_reason": self._health.read_only_reason(),
        }

    def _new_entries(self) -> list[AuditEntry]:
        """Return the newest entries that were not told yet, oldest first."""
        most = MAX_NEW_EVENTS if self._last_event_id else FIRST_EVENTS
        newest = AuditEntry.objects.filter(id__gt=self._last_event_id).order_by("-id")[:most]
        return list(newest)[::-1]


def _live_ids() -> Iterable[str]:
    """Return the tasks that are on a worker for longest."""
    live = Task.objects.filter(assigned_at__isnull=False).order_by("assigned_at", "id")
    return live.values_list("id", flat=True)[:MAX_LIVE]


def _queued_ids() -> list[str]:
    """Return the tasks that are next, whatever they need."""
    heads: list[tuple[int, str]] = []
    with connection.cursor() as cursor:
        for sandbox, network in product(SandboxLevel, (False, True)):
            cursor.execute(_QUEUED_OF_CLASS, [sandbox.value, network, MAX_QUEUED])
            heads += [(-priority, task_id) for priority, task_id in cursor.fetchall()]
        cursor.execute(_PAUSED, [MAX_QUEUED])
        heads += [(-priority, task_id) for priority, task_id in cursor.fetchall()]
    return [task_id for _, task_id in sorted(heads)[:MAX_QUEUED]]


def _ended_ids() -> list[str]:
    """Return the tasks that ended last: the trail has them in that order, the table of tasks has not."""
    kinds = ("task_finished", "task_cancelled")
    entries = (AuditEntry.objects.filter(event_type=kind).order_by("-id") for kind in kinds)
    return [task_id for kind in entries for task_id in kind.values_list("task_id", flat=True)[:ENDINGS_READ]]


def _own_ids(own: QuerySet[Task]) -> list[str]:
    """Return tasks of one owner, by the age that the index gives."""
    first = [(TaskStatus.RUNNING, "id", MAX_LIVE), (TaskStatus.QUEUED, "id", MAX_QUEUED)]
    wanted = [*first, *((status, "-id", MAX_ENDED) for status in ENDED)]
    found = (own.filter(status=status.value).order_by(order)[:most] for status, order, most in wanted)
    return [task_id for tasks in found for task_id in tasks.values_list("id", flat=True)]


def _rows(ids: Iterable[str]) -> list[dict[str, Any]]:
    tasks = Task.objects.filter(id__in=set(ids)).order_by()
    return list(tasks.annotate(command_head=Substr("command", 1, cards.MAX_COMMAND)).values(*_COLUMNS, "command_head"))


def _shown(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the tasks as they are shown: of those that have ended the last, of the others all, up to the bounds."""
    groups: dict[str, list[dict[str, Any]]] = {"running": [], "queued": [], "ended": []}
    for row in rows:
        groups["ended" if TaskStatus(row["status"]) in ENDED else row["status"]].append(row)
    groups["running"].sort(key=lambda row: (row["started_at"] or _NEVER, row["id"]))
    groups["queued"].sort(key=lambda row: (-row["priority"], row["id"]))
    groups["ended"].sort(key=lambda row: (row["completed_at"] or _LONG_AGO, row["id"]), reverse=True)
    chosen = [*groups["running"][:MAX_LIVE], *groups["queued"][:MAX_QUEUED], *groups["ended"][:MAX_ENDED]]
    names = names_of_workers(row["worker_id"] for row in chosen)
    return {row["id"]: cards.task_row(row, names) for row in chosen}


def _lines(entries: list[AuditEntry]) -> list[dict[str, Any]]:
    names = names_of_workers(entry.worker_id for entry in entries)
    return [cards.event_line(entry, names, describe(entry, names)) for entry in entries]
