"""REST views that do one thing to many tasks, in one transaction: each request for itself would wait for the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import selectors, services
from tasks_app.api.representation import TaskSerializer
from tasks_app.api.task_ids import IdsSerializer, read_ids
from tasks_app.api.views import TaskUsers
from tasks_app.models import Task

Step = Callable[[Sequence[Task], Any], services.Stepped]


class NotPossibleSerializer(serializers.Serializer[Any]):
    """A task that stayed as it was."""

    id = serializers.CharField()
    reason = serializers.CharField()


class CancelledSerializer(serializers.Serializer[Any]):
    """What came of cancelling."""

    cancelled = TaskSerializer(many=True)
    not_possible = NotPossibleSerializer(many=True)


class RetriedSerializer(serializers.Serializer[Any]):
    """What came of retrying."""

    retried = TaskSerializer(many=True)
    not_possible = NotPossibleSerializer(many=True)


class _ManyView(APIView):
    """Base: who may, and which of the ids there are."""

    permission_classes = (TaskUsers,)

    def step(self, request: Any, service: Step, done: str) -> Response:
        """Call a service with those of the tasks that the user may see, and show what came of it."""
        ids = list(dict.fromkeys(read_ids(request.data)))
        visible = selectors.visible_to(request.user).in_bulk(ids)
        stepped = service([visible[task_id] for task_id in ids if task_id in visible], request.user)
        refused = {task_id: f"there is no task {task_id}" for task_id in ids if task_id not in visible}
        refused |= stepped.not_possible
        return Response(
            {
                done: TaskSerializer(stepped.tasks, many=True).data,
                "not_possible": [{"id": task_id, "reason": refused[task_id]} for task_id in ids if task_id in refused],
            }
        )


class CancelManyView(_ManyView):
    """Cancel up to 500 tasks; running commands are killed with all their processes."""

    @extend_schema(operation_id="tasks_cancel_many", request=IdsSerializer, responses=CancelledSerializer)
    def post(self, request: Any) -> Response:
        """Cancel those that have not ended; say of the others why not."""
        return self.step(request, services.cancel_many, "cancelled")


class RetryManyView(_ManyView):
    """Queue up to 500 ended tasks again."""

    @extend_schema(operation_id="tasks_retry_many", request=IdsSerializer, responses=RetriedSerializer)
    def post(self, request: Any) -> Response:
        """Queue those that have ended; say of the others why not."""
        return self.step(request, services.retry_many, "retried")
