"""Whether this process can accept work; the composition sets it, /health and the read-only mode ask."""

from __future__ import annotations

from collections.abc import Callable

_probe: Callable[[], bool] | None = None
_read_only_reason: Callable[[], str | None] | None = None


def set_probe(probe: Callable[[], bool] | None) -> None:
    """Say how to find out; None where no engine runs in this process."""
    global _probe  # noqa: PLW0603 - one engine a process
    _probe = probe


def set_read_only_reason(reason: Callable[[], str | None] | None) -> None:
    """Say how to find out why nothing can be stored; None where nobody watches the disk."""
    global _read_only_reason  # noqa: PLW0603 - one database a process
    _read_only_reason = reason


def is_accepting() -> bool:
    """Return whether a task submitted now would be stored and run in time."""
    return _probe is not None and _probe() and read_only_reason() is None


def read_only_reason() -> str | None:
    """Return in plain words why nothing can be stored now, None when it can."""
    return _read_only_reason() if _read_only_reason is not None else None
