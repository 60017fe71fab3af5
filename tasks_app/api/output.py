"""Downloads of what a task's attempts left: stdout and stderr, and the files that it declared as outputs."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.renderers import JSONRenderer

from accounts_app.rest.negotiation import AnyAccepted
from accounts_app.rest.problems import Problem, bad_field
from tasks_app import file_selectors, selectors
from tasks_app.api.downloads import attachment, raw_bytes, text_content
from tasks_app.api.representation import OutputSerializer
from tasks_app.api.views import TaskUsers, TaskView
from tasks_app.blob_store import store
from tasks_app.models import OutputKind, Task, TaskOutput

ATTEMPT = OpenApiParameter("attempt", int, description="number of an attempt; the latest one otherwise")
RANGE = OpenApiParameter("Range", str, OpenApiParameter.HEADER)
FOLLOWING = [
    OpenApiParameter("follow", bool, description="stream what is there and what comes, until the task has ended"),
    OpenApiParameter("offset", int, description="with follow: begin at this byte of the stream"),
]
"""Served by octaskly_site.live, ahead of this view."""


def attempt_asked(request: Any, task: Task) -> int:
    """Return the number of the attempt that ?attempt= names, the latest one without it; 404 when there is none."""
    raw = request.query_params.get("attempt")
    if raw is None:
        return task.attempt
    if not (raw.isascii() and raw.isdigit()):
        raise bad_field("attempt", "must be a whole number")
    number = int(raw[:9])
    if not file_selectors.has_attempt(task, number):
        raise Problem(404, detail=f"the task has no attempt {number}")
    return number


class OutputView(TaskView):
    """stdout or stderr of a task's latest attempt, or of the one that ?attempt= names."""

    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccepted
    stream = "stdout"

    @extend_schema(
        parameters=[ATTEMPT, RANGE, *FOLLOWING],
        responses={(200, "text/plain"): OpenApiTypes.BINARY, (206, "text/plain"): OpenApiTypes.BINARY},
    )
    def get(self, request: Any, pk: str) -> HttpResponseBase:
        """Return the bytes."""
        task = self.find(pk)
        number = attempt_asked(request, task)
        stored = file_selectors.outputs_of(task, number, OutputKind(self.stream)).first()
        if stored is not None and stored.blob_id is not None:
            try:
                return text_content(request, store().open(stored.blob_id), stored.size_bytes, stored.sha256)
            except FileNotFoundError:
                pass  # What the row keeps of it is better than nothing.
        data = task.results.filter(attempt=number).values_list(self.stream, flat=True).first()
        return raw_bytes(request, bytes(data or b""))


class OutputFileListView(ListAPIView[TaskOutput]):
    """The files that a task's latest attempt left, or the attempt that ?attempt= names."""

    permission_classes = (TaskUsers,)
    serializer_class = OutputSerializer
    ordering = "name"

    def get_queryset(self) -> QuerySet[TaskOutput]:
        """Return them."""
        if getattr(self, "swagger_fake_view", False):
            return TaskOutput.objects.none()
        task = get_object_or_404(selectors.visible_to(self.request.user), pk=self.kwargs["pk"])
        return file_selectors.outputs_of(task, attempt_asked(self.request, task)).select_related("result")

    @extend_schema(parameters=[ATTEMPT])
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """List output files."""
        return super().get(request, *args, **kwargs)


class OutputFileView(TaskView):
    """One file that an attempt left: its raw bytes."""

    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccepted

    @extend_schema(
        parameters=[ATTEMPT, RANGE, OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER)],
        responses={(status, "application/octet-stream"): OpenApiTypes.BINARY for status in (200, 206)},
    )
    def get(self, request: Any, pk: str, name: str) -> HttpResponseBase:
        """Return the bytes; 410 when they have expired."""
        task = self.find(pk)
        output = file_selectors.outputs_of(task, attempt_asked(request, task)).filter(name=name).first()
        if output is None:
            raise Problem(404, detail=f"the attempt left no output {name!r}")
        if output.blob_id is not None:
            try:
                content = store().open(output.blob_id)
            except FileNotFoundError:
                pass
            else:
                return attachment(request, content, output.size_bytes, output.sha256, name)
        raise Problem(410, detail=f"the content of output {name!r} has expired")
