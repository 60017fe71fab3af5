"""Counts each worker's infrastructure failures, to take one that keeps failing out of service. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dispatcher.core.config import EngineConfig

SAME_FAILURE_S = 1.0
"""Attempts lost together are one failure of the machine, however many slots it had."""


@dataclass(slots=True)
class FailureLog:
    """Times of recent failures by worker."""

    _times: dict[str, deque[float]] = field(default_factory=dict)

    def note(self, worker_id: str, now: float, config: EngineConfig) -> bool:
        """Count a failure; return True when the worker has failed too often, and begin anew."""
        times = self._times.setdefault(worker_id, deque())
        if times and now - times[-1] < SAME_FAILURE_S:
            return False
        while times and times[0] <= now - config.worker_failure_window_s:
            times.popleft()
        times.append(now)
        if len(times) < config.max_worker_failures:
            return False
        del self._times[worker_id]
        return True
