"""Whole numbers in a query."""

from __future__ import annotations

from typing import Any, Final

from accounts_app.rest.problems import bad_field

MAX_NUMBER: Final = (1 << 63) - 1
WHOLE: Final = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}


def whole_number_asked(request: Any, name: str) -> int | None:
    """Return a query parameter that is a whole number from 0, None where it is absent; raises the Problem of others."""
    raw = request.query_params.get(name)
    if raw is None:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) <= len(str(MAX_NUMBER)) and int(raw) <= MAX_NUMBER):
        raise bad_field(name, "must be a whole number")
    return int(raw)
