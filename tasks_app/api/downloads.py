"""Raw bytes as an answer, whole or the one range that was asked for: of a stored content, or of what is in memory.

A content is never in memory as a whole: it is sent in pieces, each read on a thread when the one before is gone.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, BinaryIO, Final

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document
from accounts_app.rest.schema import refusals

PIECE_BYTES: Final = 256 << 10
RANGE: Final = OpenApiParameter(
    "Range", str, OpenApiParameter.HEADER, description="one range of bytes; several, or another unit, get the whole"
)
DOWNLOAD_HEADERS: Final = [
    RANGE,
    OpenApiParameter("If-Range", str, OpenApiParameter.HEADER, description="the range only if the ETag is this"),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="304 if the ETag is one of these"),
    OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 206, 304], description="the SHA-256"),
    OpenApiParameter("Accept-Ranges", {"const": "bytes"}, OpenApiParameter.HEADER, response=[200, 206]),
    OpenApiParameter("Content-Range", str, OpenApiParameter.HEADER, response=[206]),
]
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def downloads(media_type: str) -> dict[Any, Any]:
    """Return what `extend_schema(responses=...)` says of a download."""
    whole = OpenApiResponse(OpenApiTypes.BINARY, description="All of it")
    part = OpenApiResponse(OpenApiTypes.BINARY, description="The range")
    known = OpenApiResponse(description="The client has it already")
    return {(200, media_type): whole, (206, media_type): part, 304: known, **refusals(416)}


def raw_bytes(request: Any, data: bytes) -> HttpResponseBase:
    """Answer with text that is in memory."""
    return _answer(request, data, len(data), content_type="text/plain; charset=utf-8")


def text_content(request: Any, content: BinaryIO, size_bytes: int, sha256: str) -> HttpResponseBase:
    """Answer with a stored content that is text."""
    return _answer(request, content, size_bytes, sha256=sha256, content_type="text/plain; charset=utf-8")


def attachment(request: Any, content: BinaryIO, size_bytes: int, sha256: str, name: str) -> HttpResponseBase:
    """Answer with a stored content that a browser saves under the last part of its name and never shows."""
    response = _answer(request, content, size_bytes, sha256=sha256, content_type="application/octet-stream")
    response["Content-Disposition"] = content_disposition_header(
        as_attachment=True, filename=name.rpartition("/")[2].replace(":", "-")
    )
    return response


def _answer(
    request: Any, content: BinaryIO | bytes, size_bytes: int, *, content_type: str, sha256: str = ""
) -> HttpResponseBase:
    """Answer; several ranges get the whole (RFC 9110). A file is closed when the answer is out."""
    etag = f'"{sha256}"' if sha256 else ""
    span = _asked_range(request, size_bytes, etag)
    start, end = span or (0, size_bytes)
    response: HttpResponseBase
    if etag and not _tags(request.headers.get("If-None-Match", "")).isdisjoint((etag, "*")):
        response = HttpResponse(status=304)
        del response["Content-Type"]
    elif start > end or (span and start == end):
        problem = problem_document(416, detail=f"nothing of the range is there; it has {size_bytes} bytes")
        response = JsonResponse(problem, status=416, content_type=PROBLEM_TYPE)
        response["Content-Range"] = f"bytes */{size_bytes}"
    else:
        status = 206 if span else 200
        if request.method == "HEAD":
            response = HttpResponse(status=status, content_type=content_type)
        elif isinstance(content, bytes):
            response = HttpResponse(content[start:end], status=status, content_type=content_type)
        else:
            content.seek(start)
            pieces = _pieces_for(request)(content, end - start)
            response = StreamingHttpResponse(pieces, status=status, content_type=content_type)
        response["Content-Length"] = str(end - start)
        if span:
            response["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    if not response.streaming and not isinstance(content, bytes):
        content.close()
    return _finished(response, etag)


def _finished(response: HttpResponseBase, etag: str) -> HttpResponseBase:
    response["Accept-Ranges"] = "bytes"
    # Whatever a command wrote or somebody uploaded must not become a page of ours.
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cache-Control"] = "private, no-cache"
    if etag:
        response["ETag"] = etag
    return response


def _asked_range(request: Any, size_bytes: int, etag: str) -> tuple[int, int] | None:
    """Return from where to where, None for the whole; beyond the end when nothing of the range is there."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if not match or not (match[1] or match[2]) or request.headers.get("If-Range", etag) != etag:
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    return int(match[1]), min(size_bytes, int(match[2]) + 1) if match[2] else size_bytes


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


class _Pieces:
    """So many bytes of a file, in pieces."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left = size_bytes

    def read(self) -> bytes:
        """Return the next piece, nothing at the end."""
        piece = self._file.read(min(PIECE_BYTES, self._left)) if self._left else b""
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Let go of the file; Django calls this when the answer is out or given up."""
        self._file.close()


class _PiecesInTurn(_Pieces):
    """Under a synchronous server, which has its thread anyway."""

    def __iter__(self) -> _PiecesInTurn:
        return self

    def __next__(self) -> bytes:
        if piece := self.read():
            return piece
        raise StopIteration


class _PiecesOnAThread(_Pieces):
    """Under an asynchronous server: given a synchronous iterator Django would gather all of it in memory."""

    def __aiter__(self) -> _PiecesOnAThread:
        return self

    async def __anext__(self) -> bytes:
        if piece := await asyncio.to_thread(self.read):
            return piece
        raise StopAsyncIteration


def _pieces_for(request: Any) -> type[_PiecesInTurn | _PiecesOnAThread]:
    # REST framework wraps Django's request.
    return _PiecesOnAThread if hasattr(getattr(request, "_request", request), "scope") else _PiecesInTurn
