"""Turns every refusal of the REST interface into an RFC 9457 problem document."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation, TooManyFieldsSent
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from accounts_app import limits
from accounts_app.lockout import address_of
from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document
from accounts_app.signals import permission_denied

logger = logging.getLogger(__name__)

MAX_ERRORS = 100
"""Field errors in one document: a list of ten thousand wrong tasks is told about the first hundred."""


class Problem(exceptions.APIException):
    """Raise one to answer with it. `errors` are mappings with `field` and `message`."""

    def __init__(
        self,
        status: int,
        title: str = "",
        detail: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title or HTTPStatus(status).phrase)
        self.status_code = status
        self.title = title
        self.errors = list(errors)
        self.headers = dict(headers or {})


def bad_field(field: str, message: str) -> Problem:
    """Return the problem of one bad query parameter or field."""
    return Problem(400, detail=f"{field}: {message}", errors=[{"field": field, "message": message}])


def to_problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception raised by a view; REST framework's EXCEPTION_HANDLER.

    Returns None for what is our own fault: Django logs it and `fallbacks.server_error` answers.
    """
    # Views name this module's parser as they are defined: whoever imports this module first would meet half of it.
    from rest_framework.views import set_rollback

    request = context.get("request")
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, SuspiciousOperation):
        # Django would log each with a traceback, which whoever sends them can have as often as he likes.
        has_too_many = isinstance(error, TooManyFieldsSent)
        error = Problem(400, detail="too many parameters" if has_too_many else "the request cannot be read")
    elif isinstance(error, OperationalError):
        # Another writer held the lock for too long, or the disk is full: nothing was stored.
        logger.error("The database is not available: %s", error)
        error = Problem(503, detail="the database is not available; nothing was stored", headers={"Retry-After": "1"})
    if not isinstance(error, exceptions.APIException):
        return None
    if error.status_code == HTTPStatus.FORBIDDEN:
        _tell_of_denial(request)
    set_rollback()
    errors = _field_errors(error)
    body = problem_document(error.status_code, getattr(error, "title", ""), _detail(error, errors), errors)
    return Response(body, error.status_code, headers=_headers(error), content_type=_content_type(request))


def _tell_of_denial(request: Any) -> None:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return
    address, key = address_of(request), limits.key_of(user)
    # So many in a row are no news any more, and the audit has no end.
    if refusal := limits.DENIALS.take(key):
        limits.tell(limits.DENIALS, refusal, key, username=user.get_username(), address=address)
        return
    # Robust: the refusal stands even where it cannot be written down.
    permission_denied.send_robust(sender=None, user=user, method=request.method, path=request.path, address=address)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = dict(getattr(error, "headers", {}))
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _content_type(request: Any) -> str | None:
    """Return the problem type, unless the answer is a page of the browsable API."""
    renderer = getattr(request, "accepted_renderer", None)
    return PROBLEM_TYPE if renderer is None or renderer.format == "json" else None


def _field_errors(error: exceptions.APIException) -> list[dict[str, str]]:
    if isinstance(error, Problem):
        return [dict(item) for item in error.errors]
    if not isinstance(error, exceptions.ValidationError):
        return []
    found = []
    for item in _flatten(error.detail, ""):
        found.append(item)
        if len(found) == MAX_ERRORS:
            break
    return found


def _flatten(detail: Any, path: str) -> Iterator[dict[str, str]]:
    """Yield an entry for each message, with the way to its field in dots: `limits.memory_mb`, `3.command`."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            is_general = key == api_settings.NON_FIELD_ERRORS_KEY
            yield from _flatten(value, path if is_general else f"{path}.{key}" if path else str(key))
    elif isinstance(detail, (list, tuple)):
        for position, value in enumerate(detail):
            if isinstance(value, (dict, list, tuple)):
                yield from _flatten(value, f"{path}.{position}" if path else str(position))
            else:
                yield {"field": path, "message": str(value)}
    else:
        yield {"field": path, "message": str(detail)}


def _detail(error: exceptions.APIException, errors: list[dict[str, str]]) -> str:
    if isinstance(error, exceptions.ValidationError):
        first = errors[0] if errors else {"field": "", "message": "the request is not valid"}
        return f"{first['field']}: {first['message']}" if first["field"] else first["message"]
    detail: Any = error.detail
    if isinstance(detail, dict):
        detail = detail.get("detail", "")
    return str(detail)
