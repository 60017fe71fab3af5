"""Turns kept output bytes into the text that a task row shows. Pure."""

from __future__ import annotations

from typing import Final

SHOWN_BYTES: Final = 64 << 10
"""Kept in the task row: the first and the last half of this."""


def shown_text(data: bytes, *, is_truncated: bool) -> tuple[str, bool]:
    """Return the text for the task row and whether anything was left out of it.

    Bytes that are no UTF-8 become replacement characters; NUL too, since text columns end there in
    some tools.
    """
    if len(data) > SHOWN_BYTES:
        half = SHOWN_BYTES // 2
        left_out = len(data) - SHOWN_BYTES
        data = data[:half] + f"\n[... {left_out} bytes left out ...]\n".encode() + data[-half:]
        is_truncated = True
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}"), is_truncated
