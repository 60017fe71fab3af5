"""When a certificate is renewed: at a point of its life that the caller draws, so that many do not come at once. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from octaskly_wire.identity import certificate_life

EARLIEST_SHARE: Final = 0.5
LATEST_SHARE: Final = 0.8
"""Of a certificate's life. What is left is for a dispatcher that is away, or a disk that is full."""


def renewal_due_at(certificate: bytes, drawn: float) -> datetime:
    """Return the moment at which a certificate (DER) is to be renewed; `drawn` from 0 to 1 spreads those of many."""
    made_at, ends_at = certificate_life(certificate)
    share = EARLIEST_SHARE + drawn * (LATEST_SHARE - EARLIEST_SHARE)
    return made_at + share * (ends_at - made_at)


def retry_pause(certificate: bytes, longest: timedelta) -> timedelta:
    """Return how long to wait after a renewal that failed: a twentieth of the life, and no longer than said."""
    made_at, ends_at = certificate_life(certificate)
    return min(longest, (ends_at - made_at) / 20)
