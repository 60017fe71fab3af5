"""JSON as REST framework writes it, some ten times faster."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder

_encode: Final = msgspec.json.Encoder(enc_hook=JSONEncoder().default).encode


class QuickJson(JSONRenderer):
    """Writes compact JSON; indented where the Accept header or a page asks for it."""

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Return the document."""
        context = renderer_context or {}
        if data is None or self.get_indent(accepted_media_type or "", context) is not None:
            # What only the encoder here can write is made plain first.
            plain = None if data is None else msgspec.json.decode(_encode(data))
            rendered: bytes = super().render(plain, accepted_media_type, context)
            return rendered
        # Scripts of old cannot hold these two; REST framework spells them so that what we write is a script, too.
        # They are rare, and their first byte alone is looked for ten times as fast.
        document = _encode(data)
        if b"\xe2" not in document:
            return document
        return document.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
