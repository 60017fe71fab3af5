"""The page of all workers and the page of one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from dashboard_app.access import operators_only
from workers_app.models import Worker


@operators_only
def worker_list(request: HttpRequest) -> HttpResponse:
    """Show all workers."""
    return render(request, "dashboard/workers.html")


@operators_only
def worker_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one worker."""
    return render(request, "dashboard/worker.html", {"worker": get_object_or_404(Worker, pk=pk)})
