"""Whether and when a task runs again. Pure policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from octaskly_wire.vocabulary import FailureReason

MAX_RETRY_DELAY_S: Final = 300.0

NEVER_RETRIED: Final = frozenset({FailureReason.CANCELLED})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Backoff and budgets. A lost worker never costs a command its retry."""

    base_s: float = 1.0
    max_s: float = MAX_RETRY_DELAY_S
    max_losses: int = 5

    def after_failure(self, reason: FailureReason, failures: int, max_retries: int, jitter: float) -> float | None:
        """Return the delay in seconds before the next attempt, or None to let the task fail.

        `failures` counts this one too; `jitter` is in [0, 1) and takes away up to half of the delay.
        """
        if reason in NEVER_RETRIED or failures > max_retries:
            return None
        return self._backoff(failures, jitter)

    def after_loss(self, losses: int, jitter: float) -> float | None:
        """Return the delay after the worker was lost for the `losses`-th time, or None: give the task up."""
        if losses >= self.max_losses:
            return None
        # The first loss is the machine's fault as a rule: run again at once.
        return 0.0 if losses <= 1 else self._backoff(losses - 1, jitter)

    def _backoff(self, count: int, jitter: float) -> float:
        return min(self.max_s, self.base_s * 2.0 ** min(count - 1, 30)) * (1.0 - jitter / 2.0)
