"""Numbers as people say them, in templates as in js/format.js."""

from __future__ import annotations

from django import template

from tasks_app.duration_text import duration_text

register = template.Library()
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_NO_FRACTION_FROM = 100


@register.filter
def took(duration_ms: int | None) -> str:
    """Return milliseconds as 400 ms, 1.5 s, 3 min 05 s."""
    return duration_text(duration_ms)


@register.filter
def size(count: int | None) -> str:
    """Return bytes as 512 B, 5.1 GiB."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= _NO_FRACTION_FROM else f"{value:.1f} {_UNITS[unit]}"
