"""`GET /health`: whether a task submitted now would be stored and run. Open to anybody, and says no more."""

from __future__ import annotations

import time
from typing import Any, Final

from django.conf import settings
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.permissions import Public
from octaskly_site import status

HEALTH: Final = inline_serializer(
    "Health",
    {
        "status": serializers.ChoiceField(["ok", "unavailable"]),
        "version": serializers.CharField(),
        "uptime_seconds": serializers.IntegerField(),
    },
)


class HealthView(APIView):
    """Health of the dispatcher."""

    permission_classes = (Public,)
    authentication_classes = ()

    @extend_schema(responses=dict.fromkeys((200, 503), HEALTH))
    def get(self, request: Any) -> Response:
        """Return 200, or 503 when the dispatcher cannot accept work."""
        is_accepting = status.is_accepting()
        body = {
            "status": "ok" if is_accepting else "unavailable",
            "version": settings.OCTASKLY_VERSION,
            "uptime_seconds": int(time.monotonic() - settings.OCTASKLY_STARTED_AT_MONOTONIC),
        }
        response = Response(body, status=200 if is_accepting else 503)
        # Django would log each 503 as an error: whoever asks every second knows, and the cause is logged where it is.
        response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response
