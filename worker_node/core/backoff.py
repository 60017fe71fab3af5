"""How long to wait before the next try. Pure; randomness is an argument."""

from __future__ import annotations

from typing import Final

FLOOR_S: Final = 0.2
CEILING_S: Final = 5.0


def reconnect_delay_s(failures: int, random_fraction: float) -> float:
    """Return a delay with full jitter after so many failures in a row.

    The whole range is used, not only its end: after a restart of the dispatcher its workers come back spread
    out instead of in step.
    """
    ceiling = min(CEILING_S, FLOOR_S * float(1 << min(failures, 16)))
    return FLOOR_S + (ceiling - FLOOR_S) * random_fraction
