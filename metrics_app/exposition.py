"""`GET /metrics`: everything measured, as Prometheus reads it. For operators, and for whoever has the scrape token."""

from __future__ import annotations

import hmac
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client.exposition import choose_encoder
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts_app.permissions import OperatorsOnly
from accounts_app.rest.authentication import SessionAuthentication, Stranger, TokenAuthentication
from accounts_app.rest.negotiation import AnyAccepted
from metrics_app.gauges import Gauges
from metrics_app.instruments import REGISTRY

REGISTRY.register(Gauges())


class Scraper:
    """Whoever shows the scrape token: nobody with an account, and with no right but to scrape."""

    is_authenticated = True
    is_active = True
    pk = None


class ScrapeToken(BaseAuthentication):
    """Knows the scrape token, `OCTASKLY_METRICS_TOKEN`; leaves every other header to whoever comes next."""

    def authenticate(self, request: Request) -> tuple[Scraper, None] | None:
        """Return the scraper when the token is right; compared in constant time."""
        expected = settings.OCTASKLY_METRICS_TOKEN.encode()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not expected or scheme.lower() != "bearer":
            return None
        # As the header came: a server may hand on bytes that are no ASCII.
        is_right = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), expected)
        return (Scraper(), None) if is_right else None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - REST framework calls it so
        """Return what a client without credentials is told to bring."""
        return 'Bearer realm="metrics"'


class MayScrape(BasePermission):
    """Lets scrapers and operators in."""

    is_declared = True

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller is one."""
        return isinstance(request.user, Scraper) or OperatorsOnly().has_permission(request, view)


class MetricsView(APIView):
    """The metrics of this dispatcher."""

    authentication_classes = (ScrapeToken, TokenAuthentication, SessionAuthentication, Stranger)
    permission_classes = (MayScrape,)
    content_negotiation_class = AnyAccepted

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Return them as Prometheus text, or as OpenMetrics where that is asked for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encode(REGISTRY), content_type=content_type, headers={"Cache-Control": "no-store"})
