"""Tasks and results in Django's admin: to read, filter and search; actions call the services."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from accounts_app.read_only_admin import ReadOnlyAdmin
from tasks_app import services
from tasks_app.duration_text import duration_text
from tasks_app.file_admin import input_links, output_links
from tasks_app.models import Result, Task

MAX_SHOWN_COMMAND = 80
ATTEMPT_COLUMNS = ("attempt", "worker_id", "state", "outcome", "failure_reason", "exit_code", "took", "detail")


class ResultInline(admin.TabularInline):
    """A task's attempts below the task."""

    model = Result
    fields = ATTEMPT_COLUMNS
    readonly_fields = ATTEMPT_COLUMNS
    can_delete = False
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: attempts are the engine's."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Result]:
        """Leave the outputs in the database."""
        return super().get_queryset(request).defer("stdout", "stderr")

    @admin.display(description="duration")
    def took(self, result: Result) -> str:
        """Return how long it ran."""
        return duration_text(result.duration_ms)


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    """Tasks."""

    list_display = [
        "short_command", "name", "status", "failure_reason", "exit_code", "took", "owner", "priority", "created_at",
        "worker_id",
    ]  # fmt: skip
    list_filter = ["status", "failure_reason", "sandbox", "owner", "created_at"]
    list_select_related = ["owner"]
    list_per_page = 50
    search_fields = ["id", "name", "command"]
    ordering = ["-id"]
    actions = ["cancel_tasks", "retry_tasks"]
    inlines = [ResultInline]
    fieldsets = [
        (None, {"fields": ["id", "whole_command", "name", "status", "failure_reason", "exit_code", "took"]}),
        ("Output", {"fields": ["shown_stdout", "stdout_truncated", "shown_stderr", "stderr_truncated"]}),
        ("Files", {"fields": ["shown_inputs", "outputs", "shown_outputs"]}),
        ("Asked for", {"fields": [
            "owner", "priority", "timeout_s", "max_retries", "sandbox", "network", "env", "limits",
        ]}),
        ("Life", {"fields": [
            "worker_id", "attempt", "failures", "losses", "created_at", "available_at", "assigned_at", "started_at",
            "completed_at", "cancel_requested_at",
        ]}),
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Leave the outputs of a whole list in the database."""
        tasks = super().get_queryset(request)
        is_list = request.resolver_match is not None and request.resolver_match.url_name == "tasks_app_task_changelist"
        return tasks.defer("stdout", "stderr") if is_list else tasks

    @admin.display(description="command", ordering="command")
    def short_command(self, task: Task) -> str:
        """Return the head of the command."""
        text = task.command
        return text if len(text) <= MAX_SHOWN_COMMAND else f"{text[:MAX_SHOWN_COMMAND]}…"

    @admin.display(description="command")
    def whole_command(self, task: Task) -> str:
        """Return the command as it was written."""
        return format_html("<pre>{}</pre>", task.command)

    @admin.display(description="stdout")
    def shown_stdout(self, task: Task) -> str:
        """Return stdout with its lines."""
        return format_html("<pre>{}</pre>", task.stdout)

    @admin.display(description="stderr")
    def shown_stderr(self, task: Task) -> str:
        """Return stderr with its lines."""
        return format_html("<pre>{}</pre>", task.stderr)

    @admin.display(description="inputs")
    def shown_inputs(self, task: Task) -> str:
        """Return the inputs, to be downloaded."""
        return input_links(task)

    @admin.display(description="outputs of the latest attempt")
    def shown_outputs(self, task: Task) -> str:
        """Return what the latest attempt left, to be downloaded."""
        return output_links(task)

    @admin.display(description="duration", ordering="duration_ms")
    def took(self, task: Task) -> str:
        """Return how long the command ran."""
        return duration_text(task.duration_ms)

    @admin.action(description="Cancel the selected tasks", permissions=["view"])
    def cancel_tasks(self, request: HttpRequest, tasks: QuerySet[Task]) -> None:
        """Cancel what has not ended."""
        self.apply_to_each(request, tasks, services.cancel, services.NotPossible, "cancelled")

    @admin.action(description="Retry the selected tasks", permissions=["view"])
    def retry_tasks(self, request: HttpRequest, tasks: QuerySet[Task]) -> None:
        """Queue again what has ended."""
        self.apply_to_each(request, tasks, services.retry, services.NotPossible, "queued again")


@admin.register(Result)
class ResultAdmin(ReadOnlyAdmin):
    """Attempts and how they ended."""

    list_display = [
        "attempt_id", "worker_id", "state", "outcome", "failure_reason", "exit_code", "took", "cpu_seconds",
        "peak_memory", "sandbox_level", "completed_at", "is_superseded",
    ]  # fmt: skip
    list_filter = ["state", "outcome", "failure_reason", "sandbox_level", "is_superseded"]
    list_per_page = 50
    search_fields = ["attempt_id", "worker_id", "detail"]
    ordering = ["-attempt_id"]
    exclude = ["stdout", "stderr"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Result]:
        """Leave the outputs in the database."""
        return super().get_queryset(request).defer("stdout", "stderr")

    @admin.display(description="duration", ordering="duration_ms")
    def took(self, result: Result) -> str:
        """Return how long it ran."""
        return duration_text(result.duration_ms)

    @admin.display(description="peak memory", ordering="max_rss_bytes")
    def peak_memory(self, result: Result) -> str:
        """Return the highest resident memory in MiB."""
        return "-" if result.max_rss_bytes is None else f"{result.max_rss_bytes / 2**20:.1f} MiB"
