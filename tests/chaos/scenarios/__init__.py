"""All scenarios by name: what each needs, and how long it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from tests.chaos.field import Field

T = TypeVar("T")

DEFAULT_LEASES = {"OCTASKLY_HEARTBEAT_S": "5", "OCTASKLY_LEASE_S": "30", "OCTASKLY_RECONNECT_GRACE_S": "60"}


@dataclass(frozen=True)
class Form:
    """The long form, or the short one for CI."""

    is_short: bool

    def pick(self, short: T, long: T) -> T:
        """Return the value of this form."""
        return short if self.is_short else long


class Skipped(Exception):
    """This host cannot play the scenario; the message says why."""


@dataclass(frozen=True)
class Scenario:
    """A way for things to go wrong."""

    name: str
    play: Callable[[Field, Form], None]
    variables: Callable[[Form], Mapping[str, str]] = field(default=lambda _: {})
    """Beside the fast leases that every cluster has."""
    around: Callable[[Field], AbstractContextManager[None]] = field(default=lambda _: nullcontext())
    """What must stay until the programs have ended."""
    is_alone: bool = False
    """It measures: nothing may run beside it."""
