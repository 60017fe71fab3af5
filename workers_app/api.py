"""REST of workers and join tokens: operators only."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.permissions import OperatorsOnly
from accounts_app.rest.pagination import CursorPages
from accounts_app.rest.problems import Problem
from workers_app import services
from workers_app.enrolment import MAX_TTL_S, MAX_USES
from workers_app.models import ADMISSION_CHOICES, Worker
from workers_app.selectors import is_draining, worker_status


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A worker as REST shows it."""

    status = serializers.SerializerMethodField()
    is_draining = serializers.SerializerMethodField()

    class Meta:
        model = Worker
        fields: ClassVar = [
            "id", "name", "status", "admission", "admission_reason", "is_connected", "is_draining", "pause_reason",
            "slots", "cpu_count", "memory_total_bytes", "allows_network", "levels", "levels_unproven",
            "max_limits", "vitals", "platform",
            "software_version", "address", "transport", "public_key_sha256", "created_at", "approved_at",
            "connected_at", "last_seen_at", "certificate_expires_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_is_draining(self, worker: Worker) -> bool:
        """Return whether the worker takes nothing new."""
        return is_draining(worker)

    def get_status(self, worker: Worker) -> str:
        """Return connected, disconnected, draining, paused, pending, suspended or revoked."""
        return worker_status(worker)


class WorkerFilter(django_filters.FilterSet):
    """Filters of the list."""

    name = django_filters.CharFilter()
    admission = django_filters.ChoiceFilter(choices=ADMISSION_CHOICES)
    is_connected = django_filters.BooleanFilter()
    is_draining = django_filters.BooleanFilter()


class NewestFirst(CursorPages):
    """Pages by age, as ids are random."""

    ordering = ("-created_at", "-id")


class WorkerListView(ListAPIView[Worker]):
    """All workers, newest first."""

    permission_classes = (OperatorsOnly,)
    serializer_class = WorkerSerializer
    queryset = Worker.objects.order_by("-created_at", "-id")
    filterset_class = WorkerFilter
    pagination_class = NewestFirst


class WorkerDetailView(RetrieveAPIView[Worker]):
    """One worker."""

    permission_classes = (OperatorsOnly,)
    serializer_class = WorkerSerializer
    queryset = Worker.objects.all()


class ReasonSerializer(serializers.Serializer[Any]):
    """Why, in a few words; kept with the worker and in the audit."""

    reason = serializers.CharField(max_length=255, required=False, allow_blank=True)


STEPS: dict[str, Any] = {
    "approve": services.approve,
    "suspend": services.suspend,
    "revoke": services.revoke,
    "drain": services.drain,
    "resume": services.resume,
}


class WorkerStepView(APIView):
    """approve, suspend, revoke, drain or resume a worker."""

    permission_classes = (OperatorsOnly,)

    @extend_schema(request=ReasonSerializer, responses=WorkerSerializer)
    def post(self, request: Any, pk: str, step: str) -> Response:
        """Take the step; 409 when the worker's state does not lead there."""
        body = ReasonSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        worker = get_object_or_404(Worker, pk=pk)
        reason = body.validated_data.get("reason", "")
        extra = {"reason": reason} if step in {"suspend", "revoke"} else {}
        try:
            worker = STEPS[step](worker, request.user, **extra)
        except services.StepNotAllowed as error:
            raise Problem(409, detail=str(error)) from error
        return Response(WorkerSerializer(worker).data)


class JoinTokenRequest(serializers.Serializer[Any]):
    """What a join token should allow."""

    uses = serializers.IntegerField(min_value=1, max_value=MAX_USES, default=1)
    ttl_s = serializers.IntegerField(min_value=1, max_value=MAX_TTL_S, default=3600)
    auto_approve = serializers.BooleanField(default=False)


class JoinTokenAnswer(serializers.Serializer[Any]):
    """The token, and the line that joins a machine with it; neither can be read again."""

    token = serializers.CharField()
    join_command = serializers.CharField()
    uses = serializers.IntegerField()
    ttl_s = serializers.IntegerField()
    auto_approve = serializers.BooleanField()


class JoinTokenView(APIView):
    """Make join tokens."""

    permission_classes = (OperatorsOnly,)

    @extend_schema(request=JoinTokenRequest, responses={201: JoinTokenAnswer})
    def post(self, request: Any) -> Response:
        """Return a new token."""
        body = JoinTokenRequest(data=request.data)
        body.is_valid(raise_exception=True)
        token = services.create_join_token(**body.validated_data, actor=request.user)
        answer = {"token": token, "join_command": services.join_line(token), **body.validated_data}
        return Response(answer, status=201)
