"""How short a worker's attempts are lately, and how many it may hold beyond its slots because of that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUICK_S: Final = 0.125
"""A worker whose attempts take less on average is given some ahead."""
AHEAD_S: Final = 0.25
"""The work that may wait at a slot: half of what its worker has patience for."""
MAX_AHEAD_A_SLOT: Final = 16
"""More gains nothing: commits and messages then carry all that they can."""
MAX_AHEAD: Final = 256
"""For one worker, however many slots it has: enough for a fifth of a second's way round to it at a thousand tasks a second."""
SLOW_S: Final = 2.0
"""What a worker that nothing is known of is taken for, and the most that one attempt counts for."""
WEIGHT: Final = 1 / 8
"""Of the latest attempt: two dozen short ones make a worker quick, a long one ends that at once."""


@dataclass(slots=True)
class Pace:
    """One worker's; begins anew with each link."""

    mean_s: float = SLOW_S
    _ahead_a_slot: int = 0

    def ahead(self, slots: int) -> int:
        """Return how many attempts may wait at a worker with so many slots: none unless they begin within a moment."""
        return min(self._ahead_a_slot * slots, MAX_AHEAD) if self._ahead_a_slot else 0

    def note(self, duration_s: float) -> None:
        """Count an attempt that ran for so long."""
        self.mean_s += (min(duration_s, SLOW_S) - self.mean_s) * WEIGHT
        is_quick = self.mean_s < QUICK_S
        self._ahead_a_slot = int(min(AHEAD_S / max(self.mean_s, 0.001), MAX_AHEAD_A_SLOT)) if is_quick else 0

    def begin_anew(self) -> None:
        """Take the worker for slow: it has handed back what waited for a slot."""
        self.mean_s, self._ahead_a_slot = SLOW_S, 0
