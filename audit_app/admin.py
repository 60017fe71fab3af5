"""The audit trail in Django's admin: to read only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from accounts_app.read_only_admin import ReadOnlyAdmin
from audit_app.models import AuditEntry
from audit_app.words import EVENT_TYPES


class _TrailPages(Paginator):
    """Pages of the whole trail know its length by its ids, which have no gaps; to count millions of rows takes a second."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if rows.query.where:
            return int(super().count)
        # Each by itself: asked for both at once, SQLite walks over all rows.
        first, last = (rows.order_by(order).values_list("id", flat=True).first() for order in ("id", "-id"))
        return 0 if first is None else int(last - first + 1)


class _EventTypes(admin.SimpleListFilter):
    """Offers what is ever written; to find out what is there, SQLite walks over an index of all rows."""

    title = "event type"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return all types."""
        return [(event_type, event_type) for event_type in EVENT_TYPES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Return the rows of the chosen type."""
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(event_type=chosen)


@admin.register(AuditEntry)
class AuditAdmin(ReadOnlyAdmin):
    """The trail has one writer and is append-only."""

    paginator = _TrailPages
    list_display = ["id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details"]
    list_filter = [_EventTypes, "timestamp"]
    list_per_page = 100
    search_fields = ["=actor", "=worker_id", "=task_id", "details"]
    ordering = ["-id"]
