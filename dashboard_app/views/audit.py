"""The page of the audit trail: all of it by filters, or the story of one task, person or worker."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render

from audit_app.api import TIMES, AuditFilter
from audit_app.models import AuditEntry
from audit_app.selectors import newest_by_time, newest_first, oldest_first
from audit_app.words import EVENT_TYPES
from dashboard_app.access import operators_only
from dashboard_app.audit_rows import shown
from tasks_app.models import Task
from workers_app.selectors import names_of_workers

PAGE_ROWS: Final = 100
SEARCHED_IDS: Final = 100_000
"""How many rows one page of a search in the details reads at most."""
_MAX_DIGITS: Final = 19
"""Of ids in SQLite."""
FILTERS: Final = (
    "event_type",
    "actor",
    "person",
    "task_id",
    "worker_id",
    "timestamp_after",
    "timestamp_before",
    "details",
)


@operators_only
def audit_page(request: HttpRequest) -> HttpResponse:
    """Show the trail newest first; the story of a task from its beginning."""
    asked = {name: request.GET.get(name, "").strip() for name in FILTERS}
    chosen = {name: value for name, value in asked.items() if value}
    filters = AuditFilter(chosen, AuditEntry.objects.order_by())
    errors = {name: " ".join(messages) for name, messages in filters.errors.items()}
    page = _page(filters, chosen, _cursor(request.GET.get("cursor", ""))) if not errors else {"rows": []}
    context = {
        **page,
        **_story(chosen),
        "asked": asked | {name: _input_time(filters, name) for name in TIMES},
        "errors": errors,
        "is_filtered": bool(chosen),
        "event_types": [(name, name.replace("_", " ")) for name in EVENT_TYPES],
        "query": _query(chosen),
    }
    return render(request, "dashboard/audit.html", context, status=400 if errors else 200)


def _page(filters: AuditFilter, chosen: dict[str, str], cursor: int) -> dict[str, Any]:
    person = chosen.get("person", "")
    is_task_story = "task_id" in chosen
    searched_from = 0 if is_task_story else _searched_from(chosen, cursor)
    if is_task_story:
        entries = oldest_first(filters.qs.filter(id__gt=cursor), person, PAGE_ROWS + 1)
    elif chosen and chosen.keys() <= TIMES:
        entries = newest_by_time(filters.qs, cursor, PAGE_ROWS + 1)
    else:
        rows = filters.qs.filter(id__lt=cursor) if cursor else filters.qs
        rows = rows.filter(id__gte=searched_from) if searched_from else rows
        entries = newest_first(rows, person, PAGE_ROWS + 1)
    has_more = len(entries) > PAGE_ROWS
    return {
        "rows": shown(entries[:PAGE_ROWS]),
        "is_task_story": is_task_story,
        "is_first_page": not cursor,
        "next_query": _query(chosen, entries[PAGE_ROWS - 1].id) if has_more else "",
        # A search that has read as much as one page may goes on by a click.
        "search_query": _query(chosen, searched_from) if searched_from and not has_more else "",
        "searched_rows": SEARCHED_IDS,
    }


def _cursor(raw: str) -> int:
    """Return the id at which the page begins, 0 for the beginning: also of what is no cursor of ours."""
    return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < _MAX_DIGITS else 0


def _input_time(filters: AuditFilter, name: str) -> str:
    """Return a time as its input takes it, in UTC; what is no time the input would refuse."""
    moment = filters.form.cleaned_data.get(name)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") if moment else ""


def _searched_from(chosen: dict[str, str], cursor: int) -> int:
    """Return the first id that a search for text may read, 0 where nothing bounds it or needs to."""
    if "details" not in chosen:
        return 0
    newest = cursor or (AuditEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0) + 1
    return max(0, newest - SEARCHED_IDS)


def _story(chosen: dict[str, str]) -> dict[str, Any]:
    """Return what the heading says: whose story this is."""
    story: dict[str, Any] = {}
    if task_id := chosen.get("task_id"):
        story["story_task"] = task_id
        story["task"] = Task.objects.filter(id=task_id).only("id", "name", "command", "status").first()
    if worker_id := chosen.get("worker_id"):
        story["story_worker"] = worker_id
        story["worker_name"] = names_of_workers({worker_id}).get(worker_id, worker_id)
    if person := chosen.get("person"):
        story["story_person"] = person
    return story


def _query(chosen: dict[str, str], cursor: int | None = None) -> str:
    query = QueryDict(mutable=True)
    query.update(chosen)
    if cursor is not None:
        query["cursor"] = str(cursor)
    return query.urlencode()
