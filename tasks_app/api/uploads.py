"""The raw body of a PUT, as a stream that is never in memory as a whole."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Final, cast

from dispatcher.ports import BlobMismatch

BODY_IN_SCOPE: Final = "octaskly.body"
"""Where the web server puts a body that it has gathered in a file of its own."""


class _Body:
    """The body under Django's own server interfaces; a body that was cut off is one clear refusal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Return the next piece."""
        try:
            piece: bytes = self._stream.read(size)
        except (OSError, ValueError) as error:  # ValueError: the server closed it since the client is gone.
            raise BlobMismatch("the body was cut off") from error
        return piece


def body_of(request: Any) -> _Body:
    """Return the body of REST framework's request."""
    return _Body(_gathered(request) or request._request)


def announced_size(request: Any) -> int | None:
    """Return how many bytes the body has, None when nobody knows before its end."""
    if (gathered := _gathered(request)) is not None:
        return os.fstat(gathered.fileno()).st_size
    text = request.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _gathered(request: Any) -> BinaryIO | None:
    return cast("BinaryIO | None", getattr(request._request, "scope", {}).get(BODY_IN_SCOPE))
