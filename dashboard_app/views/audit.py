"""The page of the audit trail."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboard_app.access import operators_only


@operators_only
def audit_page(request: HttpRequest) -> HttpResponse:
    """Show the trail."""
    return render(request, "dashboard/audit.html")
