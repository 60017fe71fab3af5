"""The list of tasks: what may be asked of it, and one page of it, newest first.

Ids grow with time, so that the id is the order, the cursor, and what a time range is looked up by. A search for text,
which no index serves, reads a bounded number of tasks and goes on by a click.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import django_filters
from django.db.models import Q, QuerySet
from django.http import QueryDict

from dashboard_app.task_words import KIND_OF_STATUS, ending_words, label_of, status_words
from tasks_app import selectors
from tasks_app.api.filters import TaskFilter
from tasks_app.models import Task, TaskStatus
from tasks_app.transitions import ENDED
from workers_app.selectors import names_of_workers

PAGE_ROWS: Final = 50
SEARCHED_TASKS: Final = 50_000
MAX_SEARCH: Final = 200
WITHIN: Final = (("900", "15 minutes"), ("3600", "hour"), ("86400", "day"), ("604800", "week"))
NOT_SHOWN: Final = ("stdout", "stderr", "env", "inputs", "outputs")


class TaskPageFilter(TaskFilter):
    """The parameters of REST's list, and `q` for text in name, command or id, and `within` for the last seconds."""

    q = django_filters.CharFilter(method="search", max_length=MAX_SEARCH)
    within = django_filters.ChoiceFilter(choices=WITHIN, method="since")

    def search(self, tasks: QuerySet[Task], _name: str, text: str) -> QuerySet[Task]:
        """Return the tasks with this text in name or command, whatever its case, and the one with this id."""
        return tasks.filter(Q(name__icontains=text) | Q(command__icontains=text) | Q(id=text.strip()))

    def since(self, tasks: QuerySet[Task], name: str, seconds: str) -> QuerySet[Task]:
        """Return the tasks of the last so many seconds."""
        return self.after(tasks, name, datetime.now(UTC) - timedelta(seconds=int(seconds)))


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task as the list shows it."""

    task: Task
    label: str
    status: str
    kind: str
    ending: str
    worker_name: str
    may_cancel: bool


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of the list, and the queries of those beside it, empty where there is none."""

    rows: list[TaskRow]
    newer: str
    older: str
    further: str
    """Where a search goes on that has read as many tasks as one page may."""
    errors: dict[str, str]
    asked: dict[str, str]
    is_first: bool


def page_of(user: Any, parameters: QueryDict) -> TaskPage:
    """Return the page of the visible tasks that the parameters of the address ask for."""
    asked = {name: value for name in TaskPageFilter.base_filters if (value := parameters.get(name, "").strip())}
    visible = selectors.visible_to(user)
    filters = TaskPageFilter(asked, visible)
    errors = {name: " ".join(messages) for name, messages in filters.errors.items()}
    before, after = parameters.get("before", "")[:36], parameters.get("after", "")[:36]
    if errors:
        return TaskPage([], "", "", "", errors, asked, is_first=True)
    tasks = filters.qs.defer(*NOT_SHOWN)
    if after:
        rows = list(tasks.filter(id__gt=after).order_by("id")[: PAGE_ROWS + 1])
        has_newer, has_older = len(rows) > PAGE_ROWS, True
        rows = rows[:PAGE_ROWS][::-1]
        floor = ""
    else:
        floor = _floor(visible, before) if "q" in asked else ""
        tasks = tasks.filter(id__gte=floor) if floor else tasks
        tasks = tasks.filter(id__lt=before) if before else tasks
        rows = list(tasks.order_by("-id")[: PAGE_ROWS + 1])
        has_newer, has_older = bool(before), len(rows) > PAGE_ROWS
        rows = rows[:PAGE_ROWS]
    return TaskPage(
        rows=_shown(rows),
        newer=_query(asked, after=rows[0].id) if rows and has_newer else "",
        older=_query(asked, before=rows[-1].id) if rows and has_older else "",
        further=_query(asked, before=floor) if floor and not has_older else "",
        errors=errors,
        asked=asked,
        is_first=not before and not has_newer,
    )


def _shown(tasks: list[Task]) -> list[TaskRow]:
    names = names_of_workers(task.worker_id for task in tasks)
    return [
        TaskRow(
            task=task,
            label=label_of(task),
            status=status_words(task),
            kind=KIND_OF_STATUS[task.status],
            ending=ending_words(task),
            worker_name=names.get(task.worker_id or "", task.worker_id or ""),
            may_cancel=TaskStatus(task.status) not in ENDED,
        )
        for task in tasks
    ]


def _floor(visible: QuerySet[Task], before: str) -> str:
    """Return the id of the last task that a search from here may read, empty when there are not so many."""
    tasks = visible.filter(id__lt=before) if before else visible
    ids = tasks.order_by("-id").values_list("id", flat=True)
    return next(iter(ids[SEARCHED_TASKS - 1 : SEARCHED_TASKS]), "")


def _query(asked: dict[str, str], **cursor: str) -> str:
    query = QueryDict(mutable=True)
    query.update(asked | cursor)
    return query.urlencode()
