"""REST of the audit trail: reading, for operators."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import django_filters
from rest_framework import serializers
from rest_framework.generics import ListAPIView

from accounts_app.permissions import OperatorsOnly
from audit_app.models import AuditEntry


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    """A row of the trail."""

    details = serializers.SerializerMethodField()

    class Meta:
        model = AuditEntry
        fields: ClassVar = [
            "id", "timestamp", "event_type", "actor", "worker_id", "task_id", "details", "previous_hash", "hash",
        ]  # fmt: skip

    def get_details(self, entry: AuditEntry) -> dict[str, Any]:
        """Return the details as an object."""
        loaded: dict[str, Any] = json.loads(entry.details)
        return loaded


class AuditFilter(django_filters.FilterSet):
    """Filters on every column."""

    id = django_filters.NumberFilter()
    event_type = django_filters.CharFilter()
    actor = django_filters.CharFilter()
    worker_id = django_filters.CharFilter()
    task_id = django_filters.CharFilter()
    details = django_filters.CharFilter(lookup_expr="contains")
    previous_hash = django_filters.CharFilter()
    hash = django_filters.CharFilter()
    timestamp_after = django_filters.IsoDateTimeFilter("timestamp", "gte")
    timestamp_before = django_filters.IsoDateTimeFilter("timestamp", "lt")


class AuditListView(ListAPIView[AuditEntry]):
    """The trail, newest first."""

    permission_classes = (OperatorsOnly,)
    serializer_class = AuditSerializer
    queryset = AuditEntry.objects.order_by("-id")
    filterset_class = AuditFilter
