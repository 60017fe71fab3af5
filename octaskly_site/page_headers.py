"""Middleware that says with each page what a browser may load, run and send there: the Content-Security-Policy.

The policy is `CONTENT_SECURITY_POLICY` of the settings, said by django-csp. Other answers are no pages, and downloads
say a policy of their own, which stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

PERMISSIONS_POLICY: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation",
        "gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "publickey-credentials-get", "serial",
        "usb", "xr-spatial-tracking",
    )
)  # fmt: skip
"""What no page of ours uses; clipboard and full screen are left alone."""


@sync_and_async_middleware
def page_headers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Add the headers to each page on its way out.

    Of both kinds, unlike django-csp's own: that would make Django change threads twice more for each request.
    """
    policies = CSPMiddleware(get_response)

    def dressed(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.get("Content-Type", "").startswith("text/html"):
            response.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
            return policies.process_response(request, response)
        return response

    if iscoroutinefunction(get_response):

        async def serve_later(request: HttpRequest) -> HttpResponseBase:
            return dressed(request, await get_response(request))

        return serve_later

    def serve(request: HttpRequest) -> HttpResponseBase:
        return dressed(request, get_response(request))

    return serve
