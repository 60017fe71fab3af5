"""The page of all workers and the page of one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from dashboard_app.access import operators_only
from dashboard_app.live.cards import worker_card
from dashboard_app.worker_facts import facts_of
from tasks_app.selectors import live_attempts_by_worker
from workers_app.models import Worker


@operators_only
def worker_list(request: HttpRequest) -> HttpResponse:
    """Show all workers, those that wait for approval first."""
    used = live_attempts_by_worker()
    cards = [worker_card(worker, used.get(worker.id, 0)) for worker in Worker.objects.order_by("name", "id")]
    pending = [card for card in cards if card["status"] == "pending"]
    others = [card for card in cards if card["status"] != "pending"]
    return render(request, "dashboard/workers.html", {"cards": cards, "pending": pending, "others": others})


@operators_only
def worker_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one worker."""
    return render(request, "dashboard/worker.html", facts_of(get_object_or_404(Worker, pk=pk)))
