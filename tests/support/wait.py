"""Waiting for a condition, with the state at the end in the message: a time-out that explains itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.03


class WaitTimedOut(AssertionError):
    """The condition did not come true in time."""


def wait_until(
    condition: Callable[[], T | None],
    what: str,
    *,
    timeout_s: float = 20.0,
    describe: Callable[[], str] | None = None,
) -> T:
    """Return the condition's first true value; fail with `describe()` after the time.

    The condition may raise AssertionError to say what it misses: the last one is shown.
    """
    deadline = time.monotonic() + timeout_s
    missing = ""
    while True:
        try:
            value = condition()
        except AssertionError as error:
            value, missing = None, str(error)
        if value:
            return value
        if time.monotonic() >= deadline:
            story = describe() if describe is not None else ""
            raise WaitTimedOut(f"not within {timeout_s:g} s: {what}\n{missing}\n{story}")
        time.sleep(POLL_S)
