"""Single values of a query string, read before Django sees the request."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

MAX_FIELDS: Final = 1000
"""Django refuses a query with more."""


def value_of(query: bytes, name: str, default: str = "") -> str:
    """Return the last value under a name, as Django does; the default where there is none, or too much to read."""
    try:
        # Bytes it would read as ASCII alone, also where they stand for other letters.
        values = parse_qs(query.decode("latin1"), max_num_fields=MAX_FIELDS).get(name)
    except ValueError:
        return default
    return values[-1] if values else default


def wants_to_follow(query: bytes) -> bool:
    """Return whether output is to be streamed as it comes."""
    return value_of(query, "follow").lower() in {"1", "true"}
