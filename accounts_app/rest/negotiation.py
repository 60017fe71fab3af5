"""Content negotiation of routes whose answer has one form only."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation


class AnyAccepted(BaseContentNegotiation):
    """Answers whatever the Accept header says: the bytes are what they are, and a refusal is a problem document."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """Return the view's first parser."""
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Return the view's first renderer."""
        return renderers[0], renderers[0].media_type
