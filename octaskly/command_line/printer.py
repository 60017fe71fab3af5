"""Prints what a map's tasks wrote: each whole, one at a time, and in the order of the values when that is asked."""

from __future__ import annotations

import asyncio
import sys
from typing import IO

import msgspec

from octaskly.command_line.progress import Progress
from octaskly.command_line.show import tell
from octaskly.terminal_text import Neutraliser


class Done(msgspec.Struct, frozen=True):
    """What is to be printed of an ended task."""

    number: int
    stdout: bytes
    stderr: bytes
    complaint: str


class Printer:
    """Holds what has to wait for others."""

    def __init__(self, progress: Progress, *, keeps_order: bool, is_raw: bool) -> None:
        self._progress = progress
        self._keeps_order = keeps_order
        self._is_raw = is_raw
        self._next = 1
        self._held: dict[int, Done | None] = {}
        self._writing = asyncio.Lock()

    def skip(self, number: int) -> None:
        """Note that of this number nothing comes."""
        self._held[number] = None

    async def add(self, number: int, done: Done) -> None:
        """Print this, now or after those before it."""
        self._held[number] = done
        async with self._writing:
            if not self._keeps_order:
                await self._print_held()
            while self._next in self._held:
                await self._print(self._held.pop(self._next))
                self._next += 1

    async def finish(self) -> None:
        """Print what still waits for others that never came."""
        async with self._writing:
            await self._print_held()

    async def _print_held(self) -> None:
        held, self._held = self._held, {}
        for number in sorted(held):
            await self._print(held[number])

    async def _print(self, done: Done | None) -> None:
        if done is None or not (done.stdout or done.stderr or done.complaint):
            return
        with self._progress.hidden():
            await asyncio.to_thread(self._write, done.stdout, sys.stdout.buffer)
            await asyncio.to_thread(self._write, done.stderr, sys.stderr.buffer)
            if done.complaint:
                tell(done.complaint)

    def _write(self, data: bytes, target: IO[bytes]) -> None:
        if target.isatty() and data:
            # A line of its own, which the bar does not take away.
            data = (data if self._is_raw else Neutraliser().feed(data)).removesuffix(b"\n") + b"\n"
        if data:
            target.write(data)
            target.flush()
