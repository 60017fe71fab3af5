"""The list of tasks and the page of one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from dashboard_app.access import task_users_only
from tasks_app import selectors


@task_users_only
def task_list(request: HttpRequest) -> HttpResponse:
    """Show the tasks that the viewer may see."""
    return render(request, "dashboard/tasks.html")


@task_users_only
def task_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one task; another client's task does not exist."""
    task = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    return render(request, "dashboard/task.html", {"task": task})
