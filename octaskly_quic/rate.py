"""A bucket of tokens: so many events a second, and as many at once after a rest. Pure."""

from __future__ import annotations


class Rate:
    """Says whether one more event fits; time is in seconds of any clock."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._looked_at = 0.0

    def allows(self, now: float) -> bool:
        """Return whether an event may happen now, and count it if so."""
        self._left = min(self._per_s, self._left + (now - self._looked_at) * self._per_s)
        self._looked_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
