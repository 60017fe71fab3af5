"""What a flow may ask of the client that drives it: send, wait, read on, hand an item out. Pure.

A flow is a generator: it yields one of these, gets the result back, and returns its value. So each conversation with
the server (retries, pages, a stream that goes on after a lost connection) is written once, and the two clients,
the one that blocks and the one that awaits, only do what they are asked.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Send this and give back an Answer. With `is_open` the body stays with the connection, for Read."""

    method: str
    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: bytes = b""
    upload: Path | None = None
    """A file whose content is the body, sent piece by piece."""
    is_open: bool = False
    is_repeatable: bool = True
    """Whether it may be sent again when no answer came."""
    accepts: tuple[int, ...] = ()
    """Statuses outside of 2xx that are answers, not errors."""
    timeout_s: float | None = 60.0
    """How long the server may say nothing."""


class Answer(msgspec.Struct, frozen=True):
    """What the server said. `body` is empty while it is still to be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pause(msgspec.Struct, frozen=True):
    """Do nothing for so long."""

    seconds: float


class Read(msgspec.Struct, frozen=True):
    """Give back the next piece of the open answer's body, empty at its end."""


class Emit(msgspec.Struct, frozen=True):
    """Hand this out to whoever iterates."""

    item: Any


class Finished(msgspec.Struct, frozen=True):
    """The flow has returned."""

    value: Any


class NoAnswer(Exception):
    """The server was not reached, or the connection ended before the answer did."""


Effect: TypeAlias = Request | Pause | Read | Emit
Flow: TypeAlias = Generator[Effect, Any, T]


def step(flow: Flow[Any], outcome: Any = None, error: Exception | None = None) -> Effect | Finished:
    """Give a flow what came of its last effect, and return the next one."""
    try:
        return flow.send(outcome) if error is None else flow.throw(error)
    except StopIteration as stop:
        return Finished(stop.value)
