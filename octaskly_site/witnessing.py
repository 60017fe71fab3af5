"""Takes checkpoints of the audit trail beside the dispatcher's work, and gives them to the workers as witnesses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from django.db import DatabaseError, connections

from audit_app import checkpoints
from audit_app.seal import WrongSeal
from audit_app.signed import Checkpoint
from dispatcher.shell.beat import until_next_beat
from dispatcher.shell.service import DispatcherService
from octaskly_wire.messages import AuditCheckpoint

logger = logging.getLogger(__name__)

POLL_S: Final = 2.0
"""A busy cluster gets its checkpoints no closer together than this."""


@contextlib.asynccontextmanager
async def checkpoints_are_taken(service: DispatcherService) -> AsyncIterator[None]:
    """Do so on a thread of the pool until left, and once more at the end."""
    loop = asyncio.get_running_loop()

    def publish(taken: Checkpoint) -> None:
        loop.call_soon_threadsafe(service.publish_checkpoint, _on_wire(taken))

    taking = Taking(checkpoints.default_file(), publish)
    await loop.run_in_executor(None, taking.begin)
    rounds = asyncio.create_task(_rounds(taking), name="checkpoints")
    try:
        yield
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
        await loop.run_in_executor(None, taking.end)


async def _rounds(taking: Taking) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(until_next_beat(POLL_S, loop.time()))
        await loop.run_in_executor(None, taking.take_if_due)


class Taking:
    """Takes checkpoints into one file; a database or disk that fails costs one log line, and is tried again."""

    def __init__(self, path: Path, publish: Callable[[Checkpoint], None]) -> None:
        self._path = path
        self._publish = publish
        self._last: Checkpoint | None = None
        self._was_told = False

    def begin(self) -> None:
        """Compare the newest checkpoint of the file with the trail, and publish it if it fits."""
        self._guarded(self._begin)

    def take_if_due(self) -> None:
        """Take a checkpoint when there are enough new rows, or some that are old enough."""
        self._guarded(self._take_if_due)

    def end(self) -> None:
        """Take a last one, so that what nobody writes to any more is covered to its end."""
        self._guarded(self._take)

    def _begin(self) -> None:
        self._last = checkpoints.newest(self._path)
        if self._last is None:
            return
        found = checkpoints.examine(self._last, self._path.name)
        if found is None:
            self._publish(self._last)
        elif found.is_new:
            extra = {"event": "audit_contradicted", "row_id": self._last.row_id}
            logger.critical("The audit trail was changed: %s", found.problem, extra=extra)

    def _take_if_due(self) -> None:
        if checkpoints.is_due(self._last, datetime.now(UTC)):
            self._take()

    def _take(self) -> None:
        taken = checkpoints.take(self._path, datetime.now(UTC), self._last)
        if taken is not None:
            self._last = taken
            self._publish(taken)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (DatabaseError, OSError, WrongSeal) as error:
            if not self._was_told:
                logger.warning("No checkpoints of the audit for now: %s", error, extra={"event": "checkpoints_skipped"})
            self._was_told = True
        else:
            self._was_told = False
        finally:
            connections.close_all()


def _on_wire(taken: Checkpoint) -> AuditCheckpoint:
    return AuditCheckpoint(taken.row_id, taken.head, taken.taken_at, bytes.fromhex(taken.signature))
