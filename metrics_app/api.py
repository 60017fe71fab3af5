"""REST of counts and loads: as they are now, and over time."""

from __future__ import annotations

import time
from typing import Any, Final

import psutil
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.permissions import AnyoneSignedIn, OperatorsOnly
from accounts_app.rest.problems import bad_field
from metrics_app import selectors
from metrics_app.machine import database_bytes, uptime_s
from tasks_app import selectors as task_selectors
from workers_app.models import Worker

HOUR_S: Final = 3600
MAX_HOURS: Final = 24 * 3650


class StatsSerializer(serializers.Serializer[Any]):
    """Counts and the dispatcher's own load."""

    workers = serializers.DictField(child=serializers.IntegerField())
    tasks = serializers.DictField(child=serializers.IntegerField())
    system = serializers.DictField(child=serializers.FloatField())
    database = serializers.DictField(child=serializers.FloatField())


class StatsView(APIView):
    """Counts of workers and tasks, and the dispatcher's load."""

    permission_classes = (AnyoneSignedIn,)

    @extend_schema(responses=StatsSerializer)
    def get(self, request: Any) -> Response:
        """Return them; a client sees the counts of its own tasks."""
        return Response(
            {
                "workers": task_selectors.worker_counts(task_selectors.live_attempts_by_worker()),
                "tasks": task_selectors.task_counts(request.user),
                "system": {
                    "uptime_seconds": int(uptime_s()),
                    "cpu_percent": psutil.cpu_percent(),
                    "memory_mb": round(psutil.Process().memory_info().rss / 2**20, 1),
                },
                "database": {"size_mb": round(database_bytes() / 2**20, 2)},
            }
        )


class ClusterPointSerializer(serializers.Serializer[Any]):
    """One step of the cluster. Counts are of the step, the rest are means over it; null: nothing to tell."""

    at = serializers.IntegerField(help_text="end of the step in Unix seconds")
    queued = serializers.FloatField()
    running = serializers.FloatField()
    completed = serializers.IntegerField(help_text="tasks that ended so within the step")
    failed = serializers.IntegerField(help_text="tasks that ended so within the step")
    cancelled = serializers.IntegerField(help_text="tasks that ended so within the step")
    slots_used = serializers.FloatField()
    slots_total = serializers.FloatField()
    workers_connected = serializers.FloatField()
    cpu_percent = serializers.FloatField(allow_null=True, help_text="of the dispatcher's machine")
    memory_mb = serializers.FloatField(help_text="of the dispatcher's process")
    database_mb = serializers.FloatField()
    commit_ms = serializers.FloatField(allow_null=True, help_text="mean over the engine's commits")
    queue_wait_s = serializers.FloatField(allow_null=True, help_text="mean over the attempts that started")


class WorkerPointSerializer(serializers.Serializer[Any]):
    """One step of a worker: means and maxima over it; null: the worker did not tell."""

    at = serializers.IntegerField(help_text="end of the step in Unix seconds")
    cpu_percent = serializers.FloatField(allow_null=True)
    cpu_percent_max = serializers.FloatField(allow_null=True)
    memory_used_bytes = serializers.FloatField(allow_null=True)
    memory_used_bytes_max = serializers.FloatField(allow_null=True)
    disk_free_bytes = serializers.FloatField(allow_null=True)
    load_1m = serializers.FloatField(allow_null=True)
    slots_used = serializers.FloatField()
    round_trip_ms = serializers.FloatField(allow_null=True, help_text="from heartbeat to answer, by the worker's clock")


class ClusterHistorySerializer(serializers.Serializer[Any]):
    """A series, oldest first; where nothing was measured a point is missing."""

    step_s = serializers.IntegerField()
    points = ClusterPointSerializer(many=True)


class WorkerHistorySerializer(serializers.Serializer[Any]):
    """A series, oldest first; where the worker was not connected a point is missing."""

    step_s = serializers.IntegerField()
    points = WorkerPointSerializer(many=True)


HOURS: Final = OpenApiParameter(
    "hours",
    {"type": "integer", "minimum": 1, "maximum": MAX_HOURS},
    description="how far back; the step grows with it",
    default=1,
)


def _span_s(request: Any) -> int:
    raw = request.query_params.get("hours", "1")
    if not (raw.isascii() and raw.isdecimal() and len(raw) <= len(str(MAX_HOURS)) and 1 <= int(raw) <= MAX_HOURS):
        raise bad_field("hours", f"must be a whole number from 1 to {MAX_HOURS}")
    return int(raw) * HOUR_S


class StatsHistoryView(APIView):
    """The cluster over time."""

    permission_classes = (OperatorsOnly,)

    @extend_schema(responses=ClusterHistorySerializer, parameters=[HOURS])
    def get(self, request: Any) -> Response:
        """Return about a thousand points at most."""
        step_s, points = selectors.cluster_history(time.time(), _span_s(request))
        return Response({"step_s": step_s, "points": points})


class WorkerVitalsView(APIView):
    """A worker's load over time."""

    permission_classes = (OperatorsOnly,)

    @extend_schema(responses=WorkerHistorySerializer, parameters=[HOURS])
    def get(self, request: Any, pk: str) -> Response:
        """Return about a thousand points at most."""
        worker = get_object_or_404(Worker.objects.only("id"), pk=pk)
        step_s, points = selectors.worker_history(worker.id, time.time(), _span_s(request))
        return Response({"step_s": step_s, "points": points})
