"""The head of a response as it goes over the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Line = tuple[bytes, bytes]
"""A header's name and value."""


def response_head(version: bytes, status: int, reason: bytes, lines: Iterable[Line]) -> bytes:
    """Return the head, with the empty line at its end. No name and no value may hold the end of a line."""
    first = b"%s %d %s" % (version, status, reason)
    return b"\r\n".join([first, *(b"%s: %s" % line for line in lines), b"\r\n"])


def lines_of(headers: Any) -> Iterator[Line]:
    """Yield each header of Twisted's, as often as it has values."""
    return ((name, value) for name, values in headers.getAllRawHeaders() for value in values)
