"""REST views of tasks: each checks who may, calls a service or selector, and shows what came of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.permissions import allow
from accounts_app.rest.problems import Problem, bad_field
from accounts_app.rest.schema import refusals
from accounts_app.roles import Role
from tasks_app import idempotency, selectors, services
from tasks_app.api.filters import TaskFilter
from tasks_app.api.representation import (
    AttemptSerializer,
    SubmittedTaskSerializer,
    TaskRequestSerializer,
    TaskSerializer,
    WhySerializer,
    task_document,
)
from tasks_app.models import Result, Task
from tasks_app.new_tasks import NewTask
from tasks_app.submission import MAX_BODY_BYTES, InvalidSubmission, prefix_of, read_submission
from tasks_app.task_inputs import MissingInput
from tasks_app.why import why
from tasks_app.worker_views import warnings_of

TaskUsers = allow(Role.ADMIN, Role.DISPATCHER, Role.CLIENT)
MAX_KEY_LENGTH = 255
QUEUE_FULL_RETRY_S = 30
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": MAX_KEY_LENGTH},
    OpenApiParameter.HEADER,
    description="a request with the key and body of an earlier one is answered with its tasks, for 24 hours",
)
IDEMPOTENT_REPLAY = OpenApiParameter(
    "Idempotent-Replay", {"const": "true"}, OpenApiParameter.HEADER, response=[201], description="the tasks were there"
)


class RawJson(BaseParser):
    """Hands the body over as it is; `read_submission` reads it far faster than a serializer for each task."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the bytes of the body."""
        body: bytes = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, detail=f"the body is larger than {MAX_BODY_BYTES} bytes")
        return body


def _one_or_many(name: str, serializer: Any) -> PolymorphicProxySerializer:
    return PolymorphicProxySerializer(
        component_name=name,
        serializers=[serializer, serializer(many=True, allow_empty=False)],
        resource_type_field_name=None,
        many=False,
    )


def _with_warnings(task: Task | NewTask, warnings: list[str]) -> Any:
    """Return what is shown of a task that was submitted, or of one that was there already."""
    if isinstance(task, Task):
        return {**task_document(task), "warnings": warnings}
    task.warnings = warnings
    return task


class TaskListView(ListAPIView[Task]):
    """List tasks, newest first; submit one or many."""

    permission_classes = (TaskUsers,)
    parser_classes = (RawJson,)
    serializer_class = TaskSerializer
    filterset_class = TaskFilter
    ordering = "-created_at"
    # Ids grow with time, so the id is the order of creation, and the index for it is there.
    ordering_fields = {"created_at": "id", "priority": "priority"}

    def get_queryset(self) -> QuerySet[Task]:
        """Return what the user may see."""
        if getattr(self, "swagger_fake_view", False):
            return Task.objects.none()
        return selectors.visible_to(self.request.user)

    @extend_schema(
        request=_one_or_many("TaskOrTasksRequest", TaskRequestSerializer),
        responses={201: _one_or_many("SubmittedTaskOrTasks", SubmittedTaskSerializer), **refusals(422)},
        parameters=[IDEMPOTENCY_KEY, IDEMPOTENT_REPLAY],
    )
    def post(self, request: Any) -> Response:
        """Submit one task (an object) or up to 10,000 (a list): all or nothing."""
        body = request.data if isinstance(request.data, bytes) else b""
        try:
            specs, is_list = read_submission(body)
        except InvalidSubmission as error:
            errors = [{"field": error.field, "message": error.message}]
            raise Problem(400, detail=str(error), errors=errors) from error
        submit = partial(services.submit, request.user, specs)
        key = request.META.get("HTTP_IDEMPOTENCY_KEY", "")
        if len(key) > MAX_KEY_LENGTH:
            raise bad_field("Idempotency-Key", f"must have at most {MAX_KEY_LENGTH} characters")
        headers = {}
        tasks: idempotency.Tasks
        try:
            if key:
                tasks, is_replay = idempotency.submit_once(request.user, key, body, submit)
                headers = {"Idempotent-Replay": "true"} if is_replay else {}
            else:
                tasks = submit()
        except MissingInput as error:
            raise bad_field(f"{prefix_of(error.position, is_list=is_list)}inputs", str(error)) from error
        except services.QueueFull as error:
            raise Problem(429, detail=str(error), headers={"Retry-After": str(QUEUE_FULL_RETRY_S)}) from error
        except idempotency.KeyReused as error:
            text = "was used for another request in the last 24 hours"
            detail = f"Idempotency-Key: {text}"
            raise Problem(422, detail=detail, errors=[{"field": "Idempotency-Key", "message": text}]) from error
        shown = list(map(_with_warnings, tasks, warnings_of(tasks)))
        return Response(shown if is_list else shown[0], status=201, headers=headers)


class TaskView(APIView):
    """Base of what concerns one task; another client's task does not exist."""

    permission_classes = (TaskUsers,)

    def find(self, pk: str) -> Task:
        """Return the task or raise 404."""
        return get_object_or_404(selectors.visible_to(self.request.user), pk=pk)

    def step(self, pk: str, service: Any) -> Response:
        """Call a service with the task and show the task after it; 409 when its state does not allow it."""
        try:
            task = service(self.find(pk), self.request.user)
        except services.NotPossible as error:
            raise Problem(409, detail=str(error)) from error
        return Response(TaskSerializer(task).data)


class TaskDetailView(TaskView):
    """One task."""

    @extend_schema(responses=TaskSerializer)
    def get(self, request: Any, pk: str) -> Response:
        """Return the task."""
        return Response(TaskSerializer(self.find(pk)).data)

    @extend_schema(responses={200: TaskSerializer, **refusals(409)})
    def delete(self, request: Any, pk: str) -> Response:
        """Cancel the task, as POST .../cancel does."""
        return self.step(pk, services.cancel)


class CancelView(TaskView):
    """Cancel a task; a running command is killed with all its processes."""

    @extend_schema(request=None, responses={200: TaskSerializer, **refusals(409)})
    def post(self, request: Any, pk: str) -> Response:
        """Cancel."""
        return self.step(pk, services.cancel)


class RetryView(TaskView):
    """Queue an ended task again."""

    @extend_schema(request=None, responses={200: TaskSerializer, **refusals(409)})
    def post(self, request: Any, pk: str) -> Response:
        """Retry."""
        return self.step(pk, services.retry)


class AttemptListView(ListAPIView[Result]):
    """A task's attempts, first to last."""

    permission_classes = (TaskUsers,)
    serializer_class = AttemptSerializer
    ordering = "attempt"

    def get_queryset(self) -> QuerySet[Result]:
        """Return the attempts of a task that the user may see."""
        if getattr(self, "swagger_fake_view", False):
            return Result.objects.none()
        task = get_object_or_404(selectors.visible_to(self.request.user), pk=self.kwargs["pk"])
        return task.results.defer("stdout", "stderr")


class WhyView(TaskView):
    """Why a task waits."""

    @extend_schema(responses=WhySerializer)
    def get(self, request: Any, pk: str) -> Response:
        """Explain, worker by worker."""
        return Response(why(self.find(pk), request.user))
