"""REST of workers and join tokens: operators only."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app import limits
from accounts_app.charging import charge_account
from accounts_app.permissions import OperatorsOnly
from accounts_app.rest.filters import TruthFilter
from accounts_app.rest.pagination import CursorPages
from accounts_app.rest.problems import Problem
from accounts_app.rest.schema import refusals
from accounts_app.rest.strict import StrictSerializer, Text, TrueOrFalse, WholeNumber
from octaskly_wire.vocabulary import SandboxLevel
from workers_app import services
from workers_app.enrolment import MAX_TTL_S, MAX_USES
from workers_app.models import ADMISSION_CHOICES, Worker
from workers_app.selectors import is_draining, worker_status

SANDBOX_LEVELS = [level.value for level in SandboxLevel]


class LevelSerializer(serializers.Serializer[Any]):
    """A sandbox level that the worker proved."""

    level = serializers.ChoiceField(SANDBOX_LEVELS)
    backend = serializers.CharField()
    gaps = serializers.ListField(child=serializers.CharField(), required=False)


class UnprovenLevelSerializer(serializers.Serializer[Any]):
    """A sandbox level that the worker does not offer."""

    level = serializers.ChoiceField(SANDBOX_LEVELS)
    reason = serializers.CharField()
    is_below_floor = serializers.BooleanField(required=False, help_text="its owner allows nothing that weak")


class VitalsSerializer(serializers.Serializer[Any]):
    """The latest load readings; empty before the first."""

    cpu_percent = serializers.FloatField(required=False)
    memory_total_bytes = serializers.IntegerField(required=False)
    memory_available_bytes = serializers.IntegerField(required=False)
    disk_free_bytes = serializers.IntegerField(required=False)
    load_1m = serializers.FloatField(required=False)
    round_trip_seconds = serializers.FloatField(required=False, allow_null=True)


def _shown_as(shape: Any) -> serializers.JSONField:
    # A class for each, as what is said of a field is not copied with it.
    field: Any = extend_schema_field(shape)(type("Shown", (serializers.JSONField,), {}))
    return cast("serializers.JSONField", field(read_only=True))


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A worker as REST shows it."""

    status = serializers.SerializerMethodField()
    is_draining = serializers.SerializerMethodField()
    levels = _shown_as(LevelSerializer(many=True))
    levels_unproven = _shown_as(UnprovenLevelSerializer(many=True))
    max_limits = _shown_as({"type": "object", "additionalProperties": {"type": "integer"}})
    vitals = _shown_as(VitalsSerializer)

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
    is_connected = TruthFilter()
    is_draining = TruthFilter()


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


class ReasonSerializer(StrictSerializer):
    """Why, in a few words; kept with the worker and in the audit."""

    reason = Text(max_length=255, required=False, allow_blank=True)


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

    @extend_schema(request=ReasonSerializer, responses={200: WorkerSerializer, **refusals(409)})
    def post(self, request: Any, pk: str, step: str) -> Response:
        """Take the step; 409 when the worker's state does not lead there."""
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        worker = get_object_or_404(Worker, pk=pk)
        reason = body.validated_data.get("reason", "")
        extra = {"reason": reason} if step in {"suspend", "revoke"} else {}
        try:
            worker = STEPS[step](worker, request.user, **extra)
        except services.StepNotAllowed as error:
            raise Problem(409, detail=str(error)) from error
        return Response(WorkerSerializer(worker).data)


class JoinTokenRequest(StrictSerializer):
    """What a join token should allow."""

    uses = WholeNumber(min_value=1, max_value=MAX_USES, default=1)
    ttl_s = WholeNumber(min_value=1, max_value=MAX_TTL_S, default=3600)
    auto_approve = TrueOrFalse(default=False)


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
        charge_account(limits.JOIN_TOKENS, request, request.user)
        token = services.create_join_token(**body.validated_data, actor=request.user)
        answer = {"token": token, "join_command": services.join_line(token), **body.validated_data}
        return Response(answer, status=201)
