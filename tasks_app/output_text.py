"""Turns kept output bytes into the text that a task row shows. Pure."""

from __future__ import annotations

from typing import Final

from octaskly_wire.kept_output import marker

SHOWN_BYTES: Final = 64 << 10
"""Kept in the task row: the first and the last half of this."""


def shown_text(data: bytes, *, is_truncated: bool) -> tuple[str, bool]:
    """Return the text for the task row and whether anything was left out of it."""
    if len(data) > SHOWN_BYTES:
        half = SHOWN_BYTES // 2
        return readable(join_ends(data[:half], data[-half:], len(data) - SHOWN_BYTES)), True
    return readable(data), is_truncated


def join_ends(head: bytes, tail: bytes, left_out: int) -> bytes:
    """Return the ends of an output with a line between them that says how much is missing."""
    return head + marker(left_out) + tail


def readable(data: bytes) -> str:
    """Return bytes as text.

    Those that are no UTF-8 become replacement characters; NUL too, since text columns end there in some tools.
    """
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
