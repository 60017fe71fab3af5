"""Timing and sizes of the pure core, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from dispatcher.core.retry import RetryPolicy
from octaskly_wire.limits import HEARTBEAT_INTERVAL_S, LEASE_S, RECONNECT_GRACE_S


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Timing and sizes of the pure core."""

    heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S
    lease_s: float = LEASE_S
    reconnect_grace_s: float = RECONNECT_GRACE_S
    window_tasks: int = 256
    """Queued tasks of one class held in memory; the rest stays in the database."""
    fallback_poll_s: float = 2.0
    """How often an idle cluster looks at the queue unasked: a lost wake-up costs this, not a hung task."""
    rejected_delay_s: float = 5.0
    """Pause for a task that a worker could not even start."""
    max_worker_failures: int = 5
    """Infrastructure failures of one worker within the window after which it is suspended."""
    worker_failure_window_s: float = 600.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def tick_s(self) -> float:
        """Return how often the clock event is due."""
        return min(0.5, self.lease_s / 4)

    @property
    def stall_s(self) -> float:
        """Return the time between two ticks beyond which we ourselves stood still, so that nobody's silence counts."""
        return self.lease_s / 2
