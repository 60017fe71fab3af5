"""Middleware that says with each page what a browser may load, run and send there: the Content-Security-Policy.

The policy is `CONTENT_SECURITY_POLICY` of the settings, said by django-csp. Other answers are no pages, and downloads
say a policy of their own, which stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

PERMISSIONS_POLICY: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation",
        "gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "publickey-credentials-get", "serial",
        "usb", "xr-spatial-tracking",
    )
)  # fmt: skip
"""What no page of ours uses; clipboard and full screen are left alone."""


def page_headers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Add the headers to each page on its way out."""
    policies = CSPMiddleware(get_response)

    def serve(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
            return policies.process_response(request, response)
        return response

    return serve
