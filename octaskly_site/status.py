"""Whether this process can accept work; the composition sets it, /health reads it."""

from __future__ import annotations

from collections.abc import Callable

_probe: Callable[[], bool] | None = None


def set_probe(probe: Callable[[], bool] | None) -> None:
    """Say how to find out; None where no engine runs in this process."""
    global _probe  # noqa: PLW0603 - one engine a process
    _probe = probe


def is_accepting() -> bool:
    """Return whether a task submitted now would be stored and run in time."""
    return _probe is not None and _probe()
