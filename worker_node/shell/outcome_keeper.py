"""Keeps outcomes safe between the core and the disk: when to spool, when to try again, whether there is room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker_node.core import spooling
from worker_node.core.effects import Effect, ForgetOutcome, SpoolOutcome
from worker_node.core.state import WorkerState
from worker_node.shell.spool import Listener, Spool
from worker_node.shell.vitals import disk_shortage

logger = logging.getLogger(__name__)

SPOOL_POLL_S: Final = 0.05
DISK_CHECK_S: Final = 1.0


class OutcomeKeeper:
    """One worker's spool and the events that go with it. Wakes up once a second while there is nothing to keep."""

    def __init__(
        self, state: WorkerState, folder: Path, reserve_bytes: int, perform: Callable[[list[Effect]], None]
    ) -> None:
        """Open the spool in the state folder; raises StateFolderError."""
        self._state = state
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._perform = perform
        self._spool = Spool(folder / "spool", Listener(self._on_written, self._on_failed))
        self._has_unspooled = asyncio.Event()
        self._is_leaving = False
        self._is_safe = asyncio.Event()
        self._told_pause = ""

    def replay(self) -> None:
        """Take over what an earlier life left."""
        outcomes = self._spool.load()
        if outcomes:
            logger.info("%d outcomes of an earlier start wait for the dispatcher", len(outcomes))
        self._perform(spooling.on_spool_loaded(self._state, outcomes))

    async def run(self) -> None:
        """Spool what is not acknowledged promptly, and look after the room on the disk; runs until cancelled."""
        loop = asyncio.get_running_loop()
        check_at = 0.0
        while True:
            now = loop.time()
            if now >= check_at:
                check_at = now + DISK_CHECK_S
                shortage = disk_shortage(self._folder, self._reserve_bytes)
                self._perform(spooling.on_disk_checked(self._state, shortage))
            self._perform(spooling.on_spool_due(self._state, now))
            if self._state.has_unspooled:
                await asyncio.sleep(SPOOL_POLL_S)
                continue
            self._has_unspooled.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(check_at):
                    await self._has_unspooled.wait()

    def perform(self, effect: SpoolOutcome | ForgetOutcome) -> None:
        """Carry out what the core wants of the disk."""
        if isinstance(effect, SpoolOutcome):
            self._spool.write(effect.attempt_id, effect.outcome)
        else:
            self._spool.delete(effect.attempt_id)

    def on_step(self) -> None:
        """Look at the state after each step of the core."""
        state = self._state
        # While it is set, `run` looks again by itself.
        if not self._has_unspooled.is_set() and state.has_unspooled:
            self._has_unspooled.set()
        if self._is_leaving:  # else nobody waits for it
            if state.has_unspooled:
                self._is_safe.clear()
            else:
                self._is_safe.set()
        if bool(state.pause_reason) != bool(self._told_pause):
            self._told_pause = state.pause_reason
            text = f"No new tasks for now: {self._told_pause}" if self._told_pause else "New tasks are welcome again"
            event = "work_paused" if self._told_pause else "work_resumed"
            logger.warning("%s", text, extra={"event": event, "detail": self._told_pause})

    async def leave_the_rest_on_disk(self, patience_s: float) -> int:
        """Spool all that is not acknowledged; return how many outcomes are neither delivered nor on disk."""
        self._is_leaving = True
        self._perform(spooling.spool(self._state, list(self._state.finished)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._is_safe.wait()
        return sum(not kept.is_spooled for kept in self._state.finished.values())

    async def close(self) -> None:
        """Finish what was ordered of the disk."""
        await self._spool.close()

    def _on_written(self, attempt_id: str) -> None:
        self._perform(spooling.on_spooled(self._state, attempt_id))

    def _on_failed(self, attempt_id: str, detail: str) -> None:
        text = f"an outcome cannot be written to {self._folder / 'spool'}: {detail}"
        now = asyncio.get_running_loop().time()
        self._perform(spooling.on_spool_failed(self._state, attempt_id, text, now))
