"""Filters of the lists of tasks and files."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import django_filters
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, F, Func, Q, QuerySet
from django.db.models.lookups import Exact

from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.ids import first_id
from tasks_app.models import File, Task, TaskStatus

CLOCK_SLACK_S: Final = 3600.0
"""The clock may have been set back while ids were made."""


class Rarely(Func):
    """A condition that few rows meet, which SQLite is told; without that it takes all equalities for equally rare."""

    output_field = BooleanField()
    template = "%(expressions)s"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Add the hint."""
        return self.as_sql(compiler, connection, template="likelihood(%(expressions)s, 0.000001)", **context)


class TaskFilter(django_filters.FilterSet):
    """The query parameters status, worker_id, owner, name, created_after and created_before.

    Each is looked up along an index that has the order of the list, too: a page costs what it shows, however many
    tasks there are and however few of them are asked for.
    """

    status = django_filters.ChoiceFilter(choices=TaskStatus.choices)
    worker_id = django_filters.CharFilter(method="on_worker")
    owner = django_filters.CharFilter(method="of_owner")
    name = django_filters.CharFilter(method="named")
    created_after = django_filters.IsoDateTimeFilter(method="after")
    created_before = django_filters.IsoDateTimeFilter(method="before")

    class Meta:
        model = Task
        fields: tuple[str, ...] = ()

    def on_worker(self, tasks: QuerySet[Task], _name: str, worker_id: str) -> QuerySet[Task]:
        """Return the tasks whose latest attempt this worker has."""
        tasks = tasks.filter(worker_id=worker_id)
        if self.form.cleaned_data["status"] == TaskStatus.RUNNING:
            return tasks  # They are few, and the index of statuses finds them.
        # The index's own condition; it is not used without that.
        return tasks.filter(worker_id__gt="")

    def named(self, tasks: QuerySet[Task], _name: str, name: str) -> QuerySet[Task]:
        """Return the tasks with exactly this name."""
        return tasks.filter(Rarely(Exact(F("name"), name)), name__gt="")

    def of_owner(self, tasks: QuerySet[Task], _name: str, username: str) -> QuerySet[Task]:
        """Return this user's tasks. Joined by name, they would be sorted all for each page."""
        owner_id = get_user_model().objects.filter(username=username).values_list("id", flat=True).first()
        return tasks.filter(owner_id=owner_id) if owner_id is not None else tasks.none()

    def after(self, tasks: QuerySet[Task], _name: str, moment: datetime) -> QuerySet[Task]:
        """Return the tasks from this moment on."""
        return tasks.filter(created_at__gte=moment, id__gte=first_id(moment.timestamp() - CLOCK_SLACK_S))

    def before(self, tasks: QuerySet[Task], _name: str, moment: datetime) -> QuerySet[Task]:
        """Return the tasks before this moment."""
        return tasks.filter(created_at__lt=moment, id__lt=first_id(moment.timestamp() + CLOCK_SLACK_S))


class FileFilter(django_filters.FilterSet):
    """The query parameters name and uploads. Without the latter bare uploads, which nobody gave a name, are left out."""

    name = django_filters.CharFilter()
    uploads = django_filters.ChoiceFilter("name", choices=[("0", "named files"), ("1", "bare uploads")])

    class Meta:
        model = File
        fields: tuple[str, ...] = ()

    def filter_queryset(self, queryset: QuerySet[File]) -> QuerySet[File]:
        """Return the files with this name, named ones or bare uploads."""
        name, shows_uploads = (self.form.cleaned_data[field] for field in ("name", "uploads"))
        uploads = Q(name__startswith=DIGEST_PREFIX)
        queryset = queryset.filter(uploads if shows_uploads == "1" else ~uploads)
        return queryset.filter(name=name) if name else queryset
