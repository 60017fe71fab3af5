"""Lets all that is done again and again be done at the same moments: each time that an idle process wakes up costs the same."""

from __future__ import annotations

from typing import Final

SOONEST: Final = 0.1
"""Of a period: a moment that is nearer, or that a timer came a little too early for, is let pass."""


def until_next_beat(period_s: float, now: float) -> float:
    """Return the seconds until the next moment, by the loop's clock, that is a multiple of the period."""
    remaining_s = period_s - now % period_s
    return remaining_s if remaining_s >= SOONEST * period_s else remaining_s + period_s
