"""The audit trail in Django's admin: to read only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Max, Min
from django.utils.functional import cached_property

from accounts_app.read_only_admin import ReadOnlyAdmin
from audit_app.models import AuditEntry


class _TrailPages(Paginator):
    """Pages of the whole trail know its length by its ids, which have no gaps; to count millions of rows takes a second."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if rows.query.where:
            return int(super().count)
        ends = rows.order_by().aggregate(first=Min("id"), last=Max("id"))
        return 0 if ends["last"] is None else int(ends["last"] - ends["first"] + 1)


@admin.register(AuditEntry)
class AuditAdmin(ReadOnlyAdmin):
    """The trail has one writer and is append-only."""

    paginator = _TrailPages
    list_display = ["id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details"]
    list_filter = ["event_type", "timestamp"]
    list_per_page = 100
    search_fields = ["=actor", "=worker_id", "=task_id", "details"]
    ordering = ["-id"]
