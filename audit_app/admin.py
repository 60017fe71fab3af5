"""The audit trail in Django's admin: to read only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit_app.models import AuditEntry


@admin.register(AuditEntry)
class AuditAdmin(admin.ModelAdmin):
    """Rows nobody changes."""

    list_display = ["id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details"]
    list_filter = ["event_type", "timestamp"]
    list_per_page = 100
    show_full_result_count = False
    search_fields = ["=actor", "=worker_id", "=task_id", "details"]
    ordering = ["-id"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the trail has one writer."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the trail is append-only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the trail is append-only."""
        return False
