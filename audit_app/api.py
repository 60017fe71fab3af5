"""REST of the audit trail, for operators: reading it, and taking it out as one document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView

from accounts_app.permissions import OperatorsOnly
from accounts_app.rest.filters import WholeNumberFilter
from accounts_app.rest.negotiation import AnyAccepted
from accounts_app.rest.problems import bad_field
from audit_app import export
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

    id = WholeNumberFilter()
    event_type = django_filters.CharFilter()
    actor = django_filters.CharFilter()
    worker_id = django_filters.CharFilter(method="along_its_index")
    task_id = django_filters.CharFilter(method="along_its_index")
    details = django_filters.CharFilter(lookup_expr="contains")
    previous_hash = django_filters.CharFilter()
    hash = django_filters.CharFilter()
    timestamp_after = django_filters.IsoDateTimeFilter("timestamp", "gte")
    timestamp_before = django_filters.IsoDateTimeFilter("timestamp", "lt")

    def along_its_index(self, rows: QuerySet[AuditEntry], name: str, value: str) -> QuerySet[AuditEntry]:
        """Say also that the column is not empty: its index holds no other rows, and is not used without that."""
        return rows.filter(**{name: value}).exclude(**{name: ""})


TIMES: Final = frozenset({"timestamp_after", "timestamp_before"})
"""Filters."""


class AuditListView(ListAPIView[AuditEntry]):
    """The trail, newest first."""

    permission_classes = (OperatorsOnly,)
    serializer_class = AuditSerializer
    queryset = AuditEntry.objects.order_by("-id")
    filterset_class = AuditFilter

    @property
    def ordering(self) -> str:
        """Return the column to sort by: of rows chosen by time alone that, whose index leads to them."""
        asked = {name for name, value in self.request.query_params.items() if value} if self.request else set()
        chosen = asked & AuditFilter.base_filters.keys()
        return "-timestamp" if chosen and chosen <= TIMES else "-id"


FORMAT = OpenApiParameter("format", str, required=True, enum=sorted(export.FORMS))
PERSON = OpenApiParameter(
    "person", str, description="what this person did, failed sign-ins with the name, and changes of the account"
)


class ExportedRowSerializer(AuditSerializer):
    """A row of the JSON export."""

    text = serializers.CharField(help_text="the row in one sentence")

    class Meta(AuditSerializer.Meta):
        fields: ClassVar = list(export.COLUMNS)


class AuditExportView(GenericAPIView[AuditEntry]):
    """The trail, or what the filters leave of it, as one document, oldest row first."""

    permission_classes = (OperatorsOnly,)
    content_negotiation_class = AnyAccepted  # `format` would choose REST framework's renderer.
    queryset = AuditEntry.objects.order_by("id")
    filterset_class = AuditFilter
    other_parameters = ("person",)
    pagination_class = None

    @extend_schema(
        filters=True,
        parameters=[FORMAT, PERSON],
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/json"): ExportedRowSerializer(many=True),
        },
    )
    def get(self, request: Any) -> StreamingHttpResponse:
        """Return the document. Who took out what is itself a row of the trail."""
        asked = {name: value for name, value in request.query_params.items() if value and name != "format"}
        name = request.query_params.get("format", "")
        if name not in export.FORMS:
            raise bad_field("format", f"must be {' or '.join(sorted(export.FORMS))}")
        rows = self.filter_queryset(self.get_queryset())
        last_id = export.begin(request.user.get_username(), name, asked)
        pieces = export.pieces(rows, asked.get("person", ""), export.FORMS[name], last_id)
        response = StreamingHttpResponse(
            # Given a synchronous iterator, an asynchronous server would gather all of it in memory.
            _on_threads(pieces) if hasattr(request._request, "scope") else pieces,
            content_type=export.FORMS[name].content_type,
        )
        moment = f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
        response["Content-Disposition"] = f'attachment; filename="octaskly-audit-{moment}.{name}"'
        response["X-Content-Type-Options"] = "nosniff"
        response["Cache-Control"] = "no-store"
        return response


async def _on_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
