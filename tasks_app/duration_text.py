"""Durations as people say them."""

from __future__ import annotations


def duration_text(duration_ms: int | None) -> str:
    """Return a duration as people say it."""
    if duration_ms is None:
        return "-"
    if duration_ms < 1000:  # noqa: PLR2004 - a second
        return f"{duration_ms} ms"
    seconds = duration_ms / 1000
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
