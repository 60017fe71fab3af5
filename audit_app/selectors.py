"""Reads of the trail that stay quick in a million rows."""

from __future__ import annotations

import json
from typing import Final

from django.db.models import Q, QuerySet

from audit_app.models import AuditEntry

NAMING_EVENTS: Final = ("login_failed", "account_changed")
"""Types whose rows are about the account that their details name, whoever the actor is."""


def newest_first(rows: QuerySet[AuditEntry], person: str, limit: int) -> list[AuditEntry]:
    """Return the newest of the rows; with a person those that the person caused or that are about the account."""
    return list(_of_person(rows, person).order_by("-id")[:limit])


def newest_by_time(rows: QuerySet[AuditEntry], cursor: int, limit: int) -> list[AuditEntry]:
    """Return the newest of the rows behind the one with this id (0: of all), along the index of times.

    For a choice by time alone: by id every row outside of it would be looked at first.
    """
    if at := AuditEntry.objects.filter(id=cursor).values_list("timestamp", flat=True).first():
        rows = rows.filter(Q(timestamp__lt=at) | Q(timestamp=at, id__lt=cursor), timestamp__lte=at)
    return list(rows.order_by("-timestamp", "-id")[:limit])


def oldest_first(rows: QuerySet[AuditEntry], person: str, limit: int) -> list[AuditEntry]:
    """Return the oldest of the rows, chosen as in `newest_first`."""
    return list(_of_person(rows, person).order_by("id")[:limit])


def contradictions() -> int:
    """Return how many checkpoints on record contradict the trail and are not explained by a restored backup."""
    found = AuditEntry.objects.filter(event_type="audit_contradicted")
    return found.exclude(details__contains='"explained_by_row":').order_by().count()


def _of_person(rows: QuerySet[AuditEntry], person: str) -> QuerySet[AuditEntry]:
    if not person:
        return rows
    # Each part runs along an index of its own, and SQLite merges them: with OR it would collect and sort all of them.
    named = f'"username":{json.dumps(person)}'
    about = rows.filter(event_type__in=NAMING_EVENTS, details__contains=named).exclude(actor=person)
    parts = [rows.filter(actor=person)]
    parts += [about.filter(event_type=event_type) for event_type in NAMING_EVENTS]
    return parts[0].order_by().union(*(part.order_by() for part in parts[1:]), all=True)
