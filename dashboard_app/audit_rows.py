"""How rows of the audit are shown: in words, with a colour, and with the names of what they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models.functions import Substr

from audit_app.models import AuditEntry
from audit_app.words import describe, details_of
from tasks_app.models import Task
from workers_app.selectors import names_of_workers

_MAX_LABEL: Final = 60
_NO_PERSONS: Final = frozenset({"", "engine", "operator"})
_KINDS: Final = {
    "audit_contradicted": "bad",
    "audit_key_exported": "warn",
    "audit_pruned": "warn",
    "database_restored": "warn",
    "enrol_refused": "bad",
    "login_failed": "bad",
    "outcome_refused": "bad",
    "permission_denied": "bad",
    "task_cancel_requested": "warn",
    "task_cancelled": "warn",
    "task_requeued": "warn",
    "task_started": "busy",
    "token_reused": "bad",
    "worker_approved": "good",
    "worker_connected": "good",
    "worker_disconnected": "bad",
    "worker_draining": "warn",
    "worker_paused": "warn",
    "worker_refused": "bad",
    "worker_resumed": "good",
    "worker_revoked": "bad",
    "worker_suspended": "warn",
    "worker_unpaused": "good",
}
_KINDS_OF_OUTCOMES: Final = {"completed": "good", "cancelled": "warn"}


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row of the audit as the page shows it."""

    id: int
    at: datetime
    since_first: timedelta
    event_type: str
    kind: str
    text: str
    details: str
    actor: str
    is_person: bool
    worker_id: str
    worker_name: str
    task_id: str
    task_label: str


def shown(entries: Sequence[AuditEntry]) -> list[ShownRow]:
    """Return the entries as they are shown, in their order; names are looked up for all at once."""
    worker_names = names_of_workers(entry.worker_id for entry in entries)
    task_labels = _labels_of_tasks({entry.task_id for entry in entries if entry.task_id})
    first = entries[0].timestamp if entries else None
    return [
        ShownRow(
            id=entry.id,
            at=entry.timestamp,
            since_first=entry.timestamp - (first or entry.timestamp),
            event_type=entry.event_type,
            kind=_kind_of(entry),
            text=_capital(describe(entry, worker_names)),
            details=_pretty(details_of(entry)),
            actor=entry.actor,
            is_person=entry.actor not in _NO_PERSONS,
            worker_id=entry.worker_id,
            worker_name=worker_names.get(entry.worker_id, entry.worker_id[:8]),
            task_id=entry.task_id,
            task_label=task_labels.get(entry.task_id, entry.task_id[:8]),
        )
        for entry in entries
    ]


def _labels_of_tasks(ids: set[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = Task.objects.filter(id__in=ids).order_by().values_list("id", "name", Substr("command", 1, _MAX_LABEL))
    return {task_id: name or command.strip() or task_id[:8] for task_id, name, command in rows}


def _kind_of(entry: AuditEntry) -> str:
    if entry.event_type == "task_finished":
        outcome = details_of(entry).get("outcome")
        return _KINDS_OF_OUTCOMES.get(outcome, "bad") if isinstance(outcome, str) else "bad"
    return _KINDS.get(entry.event_type, "")


def _capital(text: str) -> str:
    return (
        text[:1].upper() + text[1:]
        if text.startswith(("attempt ", "the ", "a ", "an operator ", "somebody ", "sign-in ", "over "))
        else text
    )


def _pretty(details: Mapping[str, Any]) -> str:
    text = json.dumps(details, indent=2, ensure_ascii=False) if details else ""
    # A lone surrogate cannot be sent, and a text that turns the line around should be seen as one.
    return "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in text)
