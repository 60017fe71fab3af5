"""Filters of the lists of tasks and files."""

from __future__ import annotations

import django_filters
from django.db.models import Q, QuerySet

from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.models import File, Task, TaskStatus


class TaskFilter(django_filters.FilterSet):
    """The query parameters status, worker_id, owner, name, created_after and created_before."""

    status = django_filters.ChoiceFilter(choices=TaskStatus.choices)
    worker_id = django_filters.CharFilter()
    owner = django_filters.CharFilter("owner__username")
    name = django_filters.CharFilter()
    created_after = django_filters.IsoDateTimeFilter("created_at", "gte")
    created_before = django_filters.IsoDateTimeFilter("created_at", "lt")

    class Meta:
        model = Task
        fields: tuple[str, ...] = ()


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
