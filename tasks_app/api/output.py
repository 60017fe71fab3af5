"""Downloads of a task's kept output: raw bytes, with Range."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema

from accounts_app.rest.problems import Problem, bad_field
from tasks_app.api.views import TaskView

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class OutputView(TaskView):
    """stdout or stderr of a task's latest attempt, or of the one that ?attempt= names."""

    stream = "stdout"

    @extend_schema(
        parameters=[OpenApiParameter("attempt", int), OpenApiParameter("Range", str, OpenApiParameter.HEADER)],
        responses={(200, "text/plain"): OpenApiTypes.BINARY, (206, "text/plain"): OpenApiTypes.BINARY},
    )
    def get(self, request: Any, pk: str) -> HttpResponse:
        """Return the bytes."""
        task = self.find(pk)
        raw = request.query_params.get("attempt")
        if raw is not None and not (raw.isascii() and raw.isdigit()):
            raise bad_field("attempt", "must be a whole number")
        number = int(raw[:9]) if raw else task.attempt
        data = task.results.filter(attempt=number).values_list(self.stream, flat=True).first()
        if data is None and raw:
            raise Problem(404, detail=f"the task has no attempt {number}")
        return _ranged(bytes(data or b""), request.headers.get("Range", ""))


def _ranged(data: bytes, header: str) -> HttpResponse:
    """Answer with the whole, or the one range that was asked for; several ranges get the whole (RFC 9110)."""
    start, end, status = 0, len(data), 200
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match and (match[1] or match[2]):
        if match[1]:
            start = int(match[1])
            end = min(len(data), int(match[2]) + 1) if match[2] else len(data)
        else:
            start = max(0, len(data) - int(match[2]))
        if start >= end:
            response = HttpResponse(status=416)
            response["Content-Range"] = f"bytes */{len(data)}"
            return response
        status = 206
    response = HttpResponse(data[start:end], status=status, content_type="text/plain; charset=utf-8")
    response["Accept-Ranges"] = "bytes"
    response["X-Content-Type-Options"] = "nosniff"
    if status == 206:  # noqa: PLR2004 - partial content
        response["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return response
