"""The web server's side of joining: the same paths as at the workers' port, open to anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from accounts_app.permissions import Public
from octaskly_site.join.content import JoinContent

READ_BYTES = 256 << 10

_shown: tuple[JoinContent, int] | None = None


def show(content: JoinContent, workers_port: int) -> None:
    """Say what there is to see; the composition does, once."""
    global _shown  # noqa: PLW0603 - one dispatcher a process
    _shown = content, workers_port


@extend_schema(exclude=True)
class JoinView(APIView):
    """A script or a bundle."""

    permission_classes = (Public,)
    authentication_classes = ()

    def get(self, request: Any) -> HttpResponse | StreamingHttpResponse:
        """Return it as it is, whatever the client accepts."""
        if _shown is None:
            raise Http404
        content, workers_port = _shown
        answer = content.at_web(request.path, request.get_host(), workers_port)
        if answer is None:
            raise Http404
        if isinstance(answer.body, bytes):
            return HttpResponse(answer.body, content_type=answer.content_type)
        response = StreamingHttpResponse(_pieces(answer.body), content_type=answer.content_type)
        response["Content-Length"] = str(answer.body.stat().st_size)
        return response


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, READ_BYTES):
            yield piece
