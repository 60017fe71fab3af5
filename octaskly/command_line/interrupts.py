"""Ctrl-C, twice: the first asks to end in order, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupts:
    """Knows whether somebody wants the command to end."""

    def __init__(self) -> None:
        self.has_come = asyncio.Event()
        self.code = _CODES[signal.SIGINT]
        self._loop = asyncio.get_running_loop()

    def handle(self, number: int, _: FrameType | None) -> None:
        """Note the first one, leave on the second."""
        code = _CODES.get(signal.Signals(number), 1)
        if self.has_come.is_set():
            os._exit(code)
        self.code = code
        self._loop.call_soon_threadsafe(self.has_come.set)


@contextmanager
def watched() -> Iterator[Interrupts]:
    """Watch for SIGINT and SIGTERM in a block."""
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.handle) for number in _CODES}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
