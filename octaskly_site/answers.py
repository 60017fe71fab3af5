"""Whole answers in JSON, for what is answered ahead of Django."""

from __future__ import annotations

import json
from typing import Any

from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document


async def send_problem(send: Any, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
    """Refuse a request with a problem document."""
    await send_json(send, status, problem_document(status, detail=detail), PROBLEM_TYPE, headers)


async def send_json(
    send: Any,
    status: int,
    document: Any,
    content_type: str = "application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Answer with a document."""
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    kind = ((b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})
