"""The dashboard, the first page of everybody."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts_app.roles import is_operator
from dashboard_app.access import task_users_only
from dashboard_app.first_look import first_look
from octaskly_wire.vocabulary import SandboxLevel

SHOWN_ENDED = 12


@task_users_only
def home(request: HttpRequest) -> HttpResponse:
    """Show the dashboard; a client's has its own tasks only."""
    return render(request, "dashboard/dashboard.html", dashboard_of(request.user))


def dashboard_of(user: Any) -> dict[str, Any]:
    """Return what the dashboard shows this user before its first live event."""
    look = first_look(user, sees_everything=is_operator(user))
    return {
        "look": look,
        "summary": look["summary"],
        "now": [task for task in look["tasks"].values() if task["status"] in {"running", "queued"}],
        "ended": [task for task in look["tasks"].values() if task["completed_at"]][:SHOWN_ENDED],
        "workers": [card for card in look.get("workers", {}).values() if card["status"] != "revoked"],
        "events": look.get("events", [])[::-1],
        "sandbox_levels": [level.value for level in SandboxLevel],
        "default_sandbox": settings.OCTASKLY_DEFAULT_SANDBOX,
    }
