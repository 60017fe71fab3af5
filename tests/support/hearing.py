"""Listens to one of Django's signals for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.dispatch import Signal


@contextmanager
def hearing(signal: Signal, argument: str) -> Iterator[list[Any]]:
    """Give a list that gets what is sent under this name, each time."""
    heard: list[Any] = []

    def hear(**said: Any) -> None:
        heard.append(said[argument])

    signal.connect(hear)
    try:
        yield heard
    finally:
        signal.disconnect(hear)
