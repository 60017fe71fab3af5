"""The list of tasks and the page of one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from accounts_app.roles import is_operator
from dashboard_app.access import task_users_only
from dashboard_app.task_facts import facts_of
from dashboard_app.task_list import SEARCHED_TASKS, WITHIN, page_of
from tasks_app import selectors
from tasks_app.models import TaskStatus
from workers_app.models import Worker

MAX_NAMES = 500


@task_users_only
def task_list(request: HttpRequest) -> HttpResponse:
    """Show the tasks that the viewer may see."""
    page = page_of(request.user, request.GET)
    workers = Worker.objects.order_by("name", "id").values_list("id", "name")
    context = {
        "page": page,
        "statuses": TaskStatus.values,
        "ranges": WITHIN,
        "searched": SEARCHED_TASKS,
        "worker_names": list(workers[:MAX_NAMES]) if is_operator(request.user) else [],
    }
    return render(request, "dashboard/tasks.html", context, status=400 if page.errors else 200)


@task_users_only
def task_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one task; another client's task does not exist."""
    task = get_object_or_404(selectors.visible_to(request.user).defer("stdout", "stderr"), pk=pk)
    return render(request, "dashboard/task.html", facts_of(task, request.user))
