"""The audit trail in Django's admin: to read only."""

from __future__ import annotations

from django.contrib import admin

from accounts_app.read_only_admin import ReadOnlyAdmin
from audit_app.models import AuditEntry


@admin.register(AuditEntry)
class AuditAdmin(ReadOnlyAdmin):
    """The trail has one writer and is append-only."""

    list_display = ["id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details"]
    list_filter = ["event_type", "timestamp"]
    list_per_page = 100
    search_fields = ["=actor", "=worker_id", "=task_id", "details"]
    ordering = ["-id"]
