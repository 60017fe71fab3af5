"""How short a worker's attempts are lately, and how many it may hold beyond its slots because of that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUICK_S: Final = 0.125
"""A worker whose commands take less on average is given some ahead."""
AHEAD_S: Final = 0.25
"""The work that may wait at a slot: half of what its worker has patience for."""
MAX_AHEAD_A_SLOT: Final = 40
"""More gains nothing: commits and messages then carry all that they can."""
UNMEASURED_AHEAD_A_SLOT: Final = 4
"""As long as it is not known how long a slot takes for a turn: on a busy machine that may be ten times the command."""
TURNS_S: Final = 0.05
"""How long turns are counted at least to tell what one takes: outcomes come many at a time."""
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
    """Of the commands alone."""
    turn_s: float = 0.0
    """From one outcome of a slot to its next, all that the worker does around a command included; 0 until it is known."""
    ahead: int = 0
    """How many attempts may wait at the worker: none unless they begin within a moment."""
    _counted_since: float | None = None
    _turns: int = 0

    def note(self, duration_s: float, slots: int, left: int, now: float) -> None:
        """Count an attempt that ran for so long on one of so many slots and left so many others in the worker's hand."""
        self.mean_s += (min(duration_s, SLOW_S) - self.mean_s) * WEIGHT
        self._count_turn(slots, left, now)
        if self.mean_s >= QUICK_S:
            self.ahead = 0
            return
        most = MAX_AHEAD_A_SLOT if self.turn_s else UNMEASURED_AHEAD_A_SLOT
        # One at least, or what a turn takes would never be measured again.
        a_slot = max(int(min(AHEAD_S / max(self.mean_s, self.turn_s, 0.001), most)), 1)
        self.ahead = min(a_slot * slots, MAX_AHEAD)

    def _count_turn(self, slots: int, left: int, now: float) -> None:
        if left < slots:
            self._counted_since = None  # A slot stands idle: what passes until its next outcome is not its turn.
        elif self._counted_since is None:
            self._counted_since, self._turns = now, 0
        else:
            self._turns += 1
            passed_s = now - self._counted_since
            if self._turns >= slots and passed_s >= TURNS_S:
                self.turn_s = passed_s * slots / self._turns
                self._counted_since, self._turns = now, 0

    def begin_anew(self) -> None:
        """Take the worker for slow: it has handed back what waited for a slot."""
        self.mean_s, self.ahead, self._counted_since = SLOW_S, 0, None
