"""The way of a program's request to its view: what all middleware would do for it, in fewer steps.

Sessions, CSRF, messages and static files are for pages. Whoever shows a token and no cookie has none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware

from octaskly_site.page_headers import page_headers
from octaskly_site.read_only import read_only_while_full

GetResponse = Callable[[HttpRequest], Any]


def shows_a_token_only(request: HttpRequest) -> bool:
    """Return whether a request can go this way: one of a program, that asks for no page."""
    meta = request.META
    return (
        request.path_info.startswith("/api/")
        and meta.get("HTTP_AUTHORIZATION", "").startswith("Bearer ")
        and "HTTP_COOKIE" not in meta
        and "html" not in meta.get("HTTP_ACCEPT", "")
        and "format" not in meta["QUERY_STRING"]
    )


def api_chain(get_response: GetResponse) -> GetResponse:
    """Return what leads to a view, as Django's own chain of middleware does."""
    for middleware in (_own_hosts_only, read_only_while_full, page_headers, _common_headers):
        get_response = middleware(convert_exception_to_response(get_response))
    return convert_exception_to_response(get_response)


def _own_hosts_only(get_response: GetResponse) -> GetResponse:
    common = CommonMiddleware(get_response)

    def serve(request: HttpRequest) -> HttpResponseBase:
        return common.process_request(request) or get_response(request)

    return serve


def _common_headers(get_response: GetResponse) -> GetResponse:
    """Send plain HTTP to HTTPS where pages are sent there, and add the headers that every answer has."""
    security = SecurityMiddleware(get_response)
    no_request, nothing = HttpRequest(), HttpResponse()
    for adds_headers in (security, XFrameOptionsMiddleware(get_response)):
        adds_headers.process_response(no_request, nothing)
    del nothing.headers["Content-Type"]
    always = list(nothing.headers.items())

    def serve(request: HttpRequest) -> Any:
        response: Any = security.process_request(request) or get_response(request)
        headers = response.headers
        for name, value in always:
            headers.setdefault(name, value)
        if not response.streaming:
            headers.setdefault("Content-Length", str(len(response.content)))
        return response

    return serve
