"""Workers and join tokens in Django's admin; every action calls the service that REST calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.timesince import timesince

from accounts_app.read_only_admin import ReadOnlyAdmin
from workers_app import services
from workers_app.models import JoinToken, Worker
from workers_app.selectors import worker_status


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Machines and their place on the whitelist. They join by token; a revoked key must stay known."""

    list_display = [
        "name", "state", "slots", "load", "memory", "sandbox_levels", "address", "seen", "software_version",
    ]  # fmt: skip
    list_filter = ["admission", "is_connected", "is_draining"]
    search_fields = ["name", "id", "address", "public_key_sha256"]
    actions = ["approve_workers", "suspend_workers", "revoke_workers", "drain_workers", "resume_workers"]
    fieldsets = [
        (None, {"fields": ["id", "name", "state", "admission", "admission_reason", "is_draining", "pause_reason"]}),
        ("What it takes", {"fields": ["slots", "proven_levels", "missing_levels", "allows_network", "caps"]}),
        ("Machine", {"fields": ["platform", "cpu_count", "load", "memory", "vitals"]}),
        ("Link", {"fields": [
            "is_connected", "connected_at", "last_seen_at", "has_begun_drain", "address", "transport",
            "software_version", "boot_id",
        ]}),
        ("Key", {"fields": [
            "public_key_sha256", "certificate_expires_at", "join_token_id", "created_at", "approved_at",
        ]}),
    ]  # fmt: skip

    @admin.display(ordering="admission")
    def state(self, worker: Worker) -> str:
        """Return one word."""
        return worker_status(worker)

    @admin.display(description="cpu")
    def load(self, worker: Worker) -> str:
        """Return the latest load of the machine."""
        percent = worker.vitals.get("cpu_percent")
        return f"{percent:.0f} % of {worker.cpu_count}" if percent is not None else "-"

    @admin.display(ordering="memory_total_bytes")
    def memory(self, worker: Worker) -> str:
        """Return free and total memory."""
        if not worker.memory_total_bytes:
            return "-"
        free = worker.vitals.get("memory_available_bytes")
        total = f"{worker.memory_total_bytes / 2**30:.1f} GiB"
        return f"{free / 2**30:.1f} of {total} free" if free is not None else total

    @admin.display(description="sandbox")
    def sandbox_levels(self, worker: Worker) -> str:
        """Return the proven levels."""
        return ", ".join(proof["level"] for proof in worker.levels) or "-"

    @admin.display(description="sandbox levels")
    def proven_levels(self, worker: Worker) -> str:
        """Return each level that it proved, how, and what stays open there."""
        return _lines(
            text
            for proof in worker.levels
            for text in (
                f"{proof['level']}: {proof['backend']}",
                *(f"    open: {gap}" for gap in proof.get("gaps", ())),
            )
        )

    @admin.display(description="levels not offered")
    def missing_levels(self, worker: Worker) -> str:
        """Return each of the other levels, and why."""
        return _lines(f"{unproven['level']}: {unproven['reason']}" for unproven in worker.levels_unproven)

    @admin.display(description="most that a task may ask for")
    def caps(self, worker: Worker) -> str:
        """Return the owner's caps."""
        return _lines(f"{name} {cap}" for name, cap in worker.max_limits.items())

    @admin.display(description="last seen", ordering="last_seen_at")
    def seen(self, worker: Worker) -> str:
        """Return how long ago the worker was heard."""
        return f"{timesince(worker.last_seen_at)} ago" if worker.last_seen_at else "never"

    @admin.action(description="Approve: give them tasks", permissions=["view"])
    def approve_workers(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        """Approve."""
        self.apply_to_each(request, workers, services.approve, services.StepNotAllowed, "approved")

    @admin.action(description="Suspend: take their tasks away until approved again", permissions=["view"])
    def suspend_workers(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        """Suspend."""
        self.apply_to_each(request, workers, services.suspend, services.StepNotAllowed, "suspended")

    @admin.action(description="Revoke: shut their keys out for ever", permissions=["view"])
    def revoke_workers(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        """Revoke."""
        self.apply_to_each(request, workers, services.revoke, services.StepNotAllowed, "revoked")

    @admin.action(description="Drain: let them finish and give them nothing new", permissions=["view"])
    def drain_workers(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        """Drain."""
        self.apply_to_each(request, workers, services.drain, services.StepNotAllowed, "draining")

    @admin.action(description="Resume: give drained workers tasks again", permissions=["view"])
    def resume_workers(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        """Resume."""
        self.apply_to_each(request, workers, services.resume, services.StepNotAllowed, "resumed")


def _lines(texts: Iterable[str]) -> str:
    text = "\n".join(texts)
    return format_html("<pre>{}</pre>", text) if text else "-"


class JoinTokenForm(forms.Form):
    """What a new token should allow."""

    uses = forms.IntegerField(min_value=1, max_value=10_000, initial=1, help_text="how many machines may join with it")
    hours = forms.FloatField(min_value=0.02, max_value=8760, initial=1, help_text="how long it is good")
    auto_approve = forms.BooleanField(required=False, help_text="machines get tasks without an approval")


@admin.register(JoinToken)
class JoinTokenAdmin(ReadOnlyAdmin):
    """Join tokens; the text of one is shown once, when it is made."""

    list_display = ["token_id", "uses_left", "uses_allowed", "auto_approve", "created_at", "expires_at"]
    list_filter = ["auto_approve"]
    search_fields = ["token_id"]
    exclude = ["secret_sha256"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those who may make tokens make one; our own page does it."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_urls(self) -> list[URLPattern]:
        """Put our own page in the place of the add form."""
        page = self.admin_site.admin_view(self.make_token)
        return [path("add/", page, name="workers_app_jointoken_add"), *super().get_urls()]

    def make_token(self, request: HttpRequest) -> HttpResponse:
        """Ask what the token should allow, and show its text once."""
        if not self.has_add_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        form = JoinTokenForm(request.POST or None)
        token = ""
        if request.method == "POST" and form.is_valid():
            token = services.create_join_token(
                uses=form.cleaned_data["uses"],
                ttl_s=int(form.cleaned_data["hours"] * 3600),
                auto_approve=form.cleaned_data["auto_approve"],
                actor=request.user,
            )
        context = {
            **self.admin_site.each_context(request),
            "title": "New join token",
            "form": form,
            "token": token,
            "join_line": services.join_line(token) if token else "",
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "workers_app/new_join_token.html", context)
