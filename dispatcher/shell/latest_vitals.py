"""Keeps each worker's newest vitals and records them every few seconds: not every heartbeat is worth a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from dispatcher.ports import StoreRecord, WorkersSeen
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.messages import Vitals

LONGEST_PAUSE_S: Final = 5.0


class LatestVitals:
    """Call it on the loop."""

    def __init__(
        self, writer: StoreWriter, submit: Callable[[Sequence[StoreRecord]], None], heartbeat_interval_s: float
    ) -> None:
        """Begin with none; `submit` takes the records."""
        self._writer = writer
        self._submit = submit
        self._pause_s = min(LONGEST_PAUSE_S, heartbeat_interval_s)
        self._vitals: dict[str, Vitals] = {}

    def note(self, worker_id: str, vitals: Vitals) -> None:
        """Take what a heartbeat says, in place of what the one before said."""
        self._vitals[worker_id] = vitals

    def forget(self, worker_id: str) -> None:
        """Drop what is not recorded yet: the worker is gone."""
        self._vitals.pop(worker_id, None)

    async def run(self) -> None:
        """Record until cancelled; nothing while nothing can be written."""
        while True:
            await asyncio.sleep(self._pause_s)
            if self._vitals and self._writer.is_healthy:
                vitals, self._vitals = self._vitals, {}
                self._submit([WorkersSeen(vitals)])
