"""Filters of the task list."""

from __future__ import annotations

import django_filters

from tasks_app.models import Task, TaskStatus


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
