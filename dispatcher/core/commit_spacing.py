"""How far apart commits are to begin: a commit costs the same whatever it holds, so under load more is to gather for each.

By the rate at which records come, which does not depend on the answer: one person's tasks one after another are never
held up, and a hundred a second already share. Pure: the time is given.
"""

from __future__ import annotations

import math
from typing import Final

QUIET_A_SECOND: Final = 500.0
"""Records a second up to which each commit goes at once."""

BUSY_A_SECOND: Final = 2000.0
"""Records a second from which commits keep the whole distance."""

MAX_SPACING_S: Final = 0.032
"""Workers have more in hand than they do meanwhile."""

MEMORY_S: Final = 0.1
"""For how long a record counts in the rate, on average."""


class CommitSpacing:
    """Knows when the next commit may begin."""

    def __init__(self) -> None:
        self.next_at = 0.0
        """By the clock whose times are given, in seconds."""
        self._recent = 0.0
        """Records of late, each weighed by its age."""
        self._counted_at = 0.0

    def note(self, records: int, now: float) -> None:
        """Count a commit that begins now."""
        self._recent = self._recent * math.exp((self._counted_at - now) / MEMORY_S) + records
        self._counted_at = now
        load = (self._recent / MEMORY_S - QUIET_A_SECOND) / (BUSY_A_SECOND - QUIET_A_SECOND)
        self.next_at = now + MAX_SPACING_S * min(max(load, 0.0), 1.0)
