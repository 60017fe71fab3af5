"""What a refusal looks like: an RFC 9457 problem document. Pure, for the web server refuses before there is Django."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

PROBLEM_TYPE: Final = "application/problem+json"


def problem_document(status: int, title: str = "", detail: str = "", errors: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the body of a problem."""
    return {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": list(errors),
    }
