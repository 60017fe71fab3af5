"""Middleware that answers 503 to whatever would write, while the database's disk is full. Reading goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document
from octaskly_site import status

RETRY_AFTER_S: Final = 10
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
MAY_TRY: Final = frozenset(
    {"/api/v1/auth/token", "/api/v1/auth/refresh", "/api/v1/auth/logout", "/api/v1/tasks/wait", "/login", "/logout"},
)
"""They write so little that the reserve mostly has room for it, and whoever is to look must be able to sign in; or
nothing at all, for all that it is a POST."""


def read_only_while_full(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Pass each request on, or refuse it before anything is read from it or from the database."""

    def serve(request: HttpRequest) -> HttpResponse:
        return _objection_to(request) or get_response(request)

    return serve


def _objection_to(request: HttpRequest) -> HttpResponse | None:
    if request.method in SAFE_METHODS or request.path_info.rstrip("/") in MAY_TRY:
        return None
    reason = status.read_only_reason()
    if reason is None:
        return None
    response = _refusal(request, f"{reason}; nothing was stored, and what is stored can still be read")
    response["Retry-After"] = str(RETRY_AFTER_S)
    # Django would log an error for each: the cause is logged once, where it is.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response


def _refusal(request: HttpRequest, detail: str) -> HttpResponse:
    if request.path_info.startswith("/api/"):
        return JsonResponse(problem_document(503, detail=detail), status=503, content_type=PROBLEM_TYPE)
    return HttpResponse(render_to_string("503.html", {"detail": detail}), status=503)
