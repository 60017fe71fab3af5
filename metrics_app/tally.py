"""Counts what happens, from any thread: for the next sample, and for the rates of the last minutes."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

WINDOW_S: Final = 300.0
"""What the rates look back over."""
GRAIN_S: Final = 1.0
"""Endings so close together are kept as one entry, so that the window has a bound."""


@dataclass(slots=True)
class Happened:
    """What happened since the last sample."""

    ended: Counter[str] = field(default_factory=Counter)
    """Tasks that ended, by status."""
    commits: int = 0
    commit_seconds: float = 0.0
    starts: int = 0
    queue_wait_seconds: float = 0.0

    def add(self, other: Happened) -> None:
        """Count the other's in."""
        self.ended.update(other.ended)
        self.commits += other.commits
        self.commit_seconds += other.commit_seconds
        self.starts += other.starts
        self.queue_wait_seconds += other.queue_wait_seconds


class Tally:
    """The counts of one process."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._happened = Happened()
        self._window: deque[tuple[float, Counter[str]]] = deque()

    def note(self, happened: Happened) -> None:
        """Count this in."""
        with self._lock:
            self._happened.add(happened)
            if happened.ended:
                self._remember(self._clock(), happened.ended)

    def remember(self, ended: Iterable[tuple[float, Counter[str]]]) -> None:
        """Take what an earlier process saw, oldest first, into the window only; call before anything is noted."""
        with self._lock:
            for at, counts in ended:
                self._remember(at, counts)

    def take(self) -> Happened:
        """Return what happened since the last call."""
        with self._lock:
            taken, self._happened = self._happened, Happened()
            return taken

    def give_back(self, happened: Happened) -> None:
        """Count in again what was taken and could not be written; the next sample tells it."""
        with self._lock:
            self._happened.add(happened)

    def recent_rates(self) -> dict[str, Any]:
        """Return `completed_per_min` and `failed_per_min` of the last five minutes, and `failed_ratio` (None: no end)."""
        with self._lock:
            self._forget_old(self._clock())
            ended: Counter[str] = Counter()
            for _, counts in self._window:
                ended.update(counts)
        completed, failed = ended["completed"], ended["failed"]
        minutes = WINDOW_S / 60
        return {
            "completed_per_min": round(completed / minutes, 2),
            "failed_per_min": round(failed / minutes, 2),
            "failed_ratio": round(failed / (completed + failed), 4) if completed + failed else None,
        }

    def _remember(self, at: float, ended: Counter[str]) -> None:
        if self._window and 0 <= at - self._window[-1][0] < GRAIN_S:
            self._window[-1][1].update(ended)
        else:
            self._forget_old(at)
            self._window.append((at, Counter(ended)))

    def _forget_old(self, now: float) -> None:
        # Of a clock that was set back, what lies ahead is forgotten, too: it would stay for as long.
        while self._window and not 0 <= now - self._window[0][0] <= WINDOW_S:
            self._window.popleft()


tally = Tally()
"""The one of this process."""
