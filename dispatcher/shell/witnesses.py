"""Workers as witnesses of the audit trail: each gets the newest checkpoint, and what it shows again is compared."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from dispatcher.ports import Store, StoreUnavailable
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.messages import AuditCheckpoint, WitnessCheckpoint

logger = logging.getLogger(__name__)


class Witnesses:
    """Call it on the loop."""

    def __init__(self, store: Store, writer: StoreWriter) -> None:
        self._store = store
        self._writer = writer
        self._newest: AuditCheckpoint | None = None
        self._comparisons: set[asyncio.Task[None]] = set()

    def publish(self, checkpoint: AuditCheckpoint, links: Iterable[WorkerLink]) -> None:
        """Give a new checkpoint to all connected workers, and to whoever connects from now on."""
        self._newest = checkpoint
        for link in links:
            link.send(WitnessCheckpoint(checkpoint))

    def on_connected(self, link: WorkerLink, witnessed: AuditCheckpoint | None) -> None:
        """Give a worker the newest checkpoint, and compare the one it showed, if any, with the trail."""
        if self._newest is not None:
            link.send(WitnessCheckpoint(self._newest))
        if witnessed is not None:
            comparison = asyncio.get_running_loop().create_task(self._compare(link, witnessed))
            self._comparisons.add(comparison)
            comparison.add_done_callback(self._comparisons.discard)

    async def _compare(self, link: WorkerLink, witnessed: AuditCheckpoint) -> None:
        worker_id, store = link.worker_id, self._store
        with contextlib.suppress(StoreUnavailable):
            problem = await self._writer.call(lambda: store.examine_witnessed(worker_id, witnessed))
            if problem:
                extra = {"event": "audit_contradicted", "worker_id": worker_id, "row_id": witnessed.row_id}
                logger.critical("Worker %s contradicts the audit trail: %s", worker_id, problem, extra=extra)
