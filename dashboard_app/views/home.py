"""The dashboard, the first page of everybody."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboard_app.access import task_users_only


@task_users_only
def home(request: HttpRequest) -> HttpResponse:
    """Show the dashboard; a client's has its own tasks only."""
    return render(request, "dashboard/dashboard.html")
