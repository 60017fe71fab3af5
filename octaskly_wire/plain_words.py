"""Says amounts as people read them."""

from __future__ import annotations

from typing import Final

_MB_OF_GB: Final = 1024
_STEPS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def memory_pair(asked_mb: int, there_mb: int) -> tuple[str, str]:
    """Return two amounts in the same unit: in GB, unless they are small or would then look alike."""
    asked, there = (f"{round(amount / _MB_OF_GB, 1):g} GB" for amount in (asked_mb, there_mb))
    if max(asked_mb, there_mb) < _MB_OF_GB or asked == there:
        return f"{asked_mb} MB", f"{there_mb} MB"
    return asked, there


def span(seconds: float) -> str:
    """Return a span of time in its largest whole unit."""
    for unit, length_s in _STEPS:
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"
