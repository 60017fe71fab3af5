"""Addresses of the audit trail, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from audit_app.api import AuditExportView, AuditListView

urlpatterns = [
    re_path(r"^audit/?$", AuditListView.as_view(), name="audit"),
    re_path(r"^audit/export/?$", AuditExportView.as_view(), name="audit-export"),
]
