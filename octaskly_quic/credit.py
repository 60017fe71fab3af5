"""How far a peer may send: what was taken from it, and a window on top. Pure."""

from __future__ import annotations

from typing import Final

STREAM_WINDOW_BYTES: Final = 1 << 20
"""What a peer may have on its way in one stream beyond what was taken."""

MAX_STREAMS: Final = 16
"""Streams that a worker may have open at a time: its control link, and its links for transfers."""

CONNECTION_WINDOW_BYTES: Final = MAX_STREAMS * STREAM_WINDOW_BYTES

UNTRUSTED_WINDOW_BYTES: Final = 64 << 10
"""Of a whole connection on which nobody has proved yet who he is: so much memory may strangers take."""


def raised_limit(limit: int, taken: int, window: int) -> int:
    """Return up to which byte the peer may send: in steps of a quarter window, since each step is told to it."""
    wanted = taken + window
    return wanted if wanted - limit >= window // 4 else limit
