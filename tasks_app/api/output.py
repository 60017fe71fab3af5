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

from accounts_app.rest.filters import truth_asked
from accounts_app.rest.negotiation import AnyAccepted
from accounts_app.rest.problems import Problem
from accounts_app.rest.schema import refusals
from tasks_app import file_selectors, selectors
from tasks_app.api.downloads import DOWNLOAD_HEADERS, attachment, downloads, raw_bytes, text_content
from tasks_app.api.numbers import WHOLE, whole_number_asked
from tasks_app.api.representation import OutputSerializer
from tasks_app.api.views import TaskUsers, TaskView
from tasks_app.blob_store import store
from tasks_app.models import OutputKind, Task, TaskOutput

ATTEMPT = OpenApiParameter("attempt", WHOLE, description="number of an attempt; the latest one otherwise")
FRAMES = "application/vnd.octaskly.frames"
FOLLOWING = [
    OpenApiParameter("follow", bool, description="stream what is there and what comes, until the task has ended"),
    OpenApiParameter("offset", WHOLE, description="with follow: begin at this byte of the stream"),
    OpenApiParameter(
        "from_attempt", WHOLE, description="with follow: begin with this attempt, and go on with those after it"
    ),
    OpenApiParameter("framed", bool, description=f"with follow: {FRAMES}, which tells attempts, offsets and the end"),
]
"""Served by octaskly_site.live, ahead of this view."""


def attempt_asked(request: Any, task: Task) -> int:
    """Return the number of the attempt that ?attempt= names, the latest one without it; 404 when there is none."""
    number = whole_number_asked(request, "attempt")
    if number is None:
        return task.attempt
    if not file_selectors.has_attempt(task, number):
        raise Problem(404, detail=f"the task has no attempt {number}")
    return number


class OutputView(TaskView):
    """stdout or stderr of a task's latest attempt, or of the one that ?attempt= names."""

    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccepted
    stream = "stdout"

    @extend_schema(
        parameters=[ATTEMPT, *FOLLOWING, *DOWNLOAD_HEADERS],
        responses={**downloads("text/plain"), (200, FRAMES): OpenApiTypes.BINARY},
    )
    def get(self, request: Any, pk: str) -> HttpResponseBase:
        """Return the bytes."""
        for name in ("follow", "framed"):
            truth_asked(request, name)
        for name in ("offset", "from_attempt"):
            whole_number_asked(request, name)
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
    other_parameters = ("attempt",)

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
        parameters=[ATTEMPT, *DOWNLOAD_HEADERS],
        responses={**downloads("application/octet-stream"), **refusals(410)},
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
