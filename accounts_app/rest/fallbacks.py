"""Answers where no REST view was reached: what is unknown, unreadable or forbidden, our own faults.

People get a page, from the templates that Django looks for (404.html and so on); programs get a problem document.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django itself refuses to read."""
    if _wants_page(request):
        return defaults.bad_request(request, exception)
    return _problem(400, "the request cannot be read")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what the user's role does not allow."""
    if _wants_page(request):
        return defaults.permission_denied(request, exception)
    return _problem(403, str(exception) or "your role does not allow this")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an address that does not exist."""
    if _wants_page(request):
        return defaults.page_not_found(request, exception)
    return _problem(404, f"there is no {request.path}")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer after our own fault, which has been logged. Says nothing of the inside."""
    if _wants_page(request):
        return defaults.server_error(request)
    return _problem(500, "the server failed; its log says why")


def _wants_page(request: HttpRequest) -> bool:
    return not request.path.startswith(("/api/", "/health", "/metrics"))


def _problem(status: int, detail: str) -> HttpResponse:
    body: dict[str, Any] = problem_document(status, detail=detail)
    return JsonResponse(body, status=status, content_type=PROBLEM_TYPE)
