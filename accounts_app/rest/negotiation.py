"""Content negotiation: quick for programs, which mostly take anything, and of routes whose answer has one form only."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation


class QuickNegotiation(DefaultContentNegotiation):
    """Chooses as REST framework does, at once where nothing was asked for."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Return the renderer and what it is to say of its answer. Raises NotAcceptable, Http404."""
        asked = format_suffix or request.META.get("QUERY_STRING")
        if not asked and request.META.get("HTTP_ACCEPT", "*/*") == "*/*":
            return renderers[0], renderers[0].media_type
        chosen: tuple[Any, str] = super().select_renderer(request, renderers, format_suffix)
        return chosen


class AnyAccepted(BaseContentNegotiation):
    """Answers whatever the Accept header says: the bytes are what they are, and a refusal is a problem document."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """Return the view's first parser."""
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Return the view's first renderer."""
        return renderers[0], renderers[0].media_type
