"""Keep the proven levels true while the worker runs: prove again when a sandbox failed, and until it is mended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.host import Host
from worker_node.sandbox.probe import LevelReport, prove_levels
from worker_node.sandbox.workspace import Workspaces

logger = logging.getLogger(__name__)

RETRY_EVERY_S: Final = 60.0
"""Between proofs while a level is missing that was proven at start, or could not be tried then."""


class LevelKeeper:
    """Knows what this host proves now, and tells when that changes."""

    def __init__(
        self,
        host: Host,
        workspaces: Workspaces,
        reports: Sequence[LevelReport],
        on_change: Callable[[Sequence[LevelReport]], None],
        retry_every_s: float = RETRY_EVERY_S,
        *,
        allows_network: bool = True,
    ) -> None:
        """Start from the proofs that were made when the worker started."""
        self._allows_network = allows_network
        self.reports = reports
        self._host = host
        self._workspaces = workspaces
        self._on_change = on_change
        self._retry_every_s = retry_every_s
        self._wanted = _proven(reports) | {report.level for report in reports if report.is_passing}
        self._is_in_doubt = asyncio.Event()

    def doubt(self) -> None:
        """Hear that a sandbox could not be made."""
        self._is_in_doubt.set()

    async def run(self) -> None:
        """Prove when in doubt, for as long as the worker runs."""
        while True:
            is_complete = _proven(self.reports) >= self._wanted
            try:
                async with asyncio.timeout(None if is_complete else self._retry_every_s):
                    await self._is_in_doubt.wait()
            except TimeoutError:
                pass
            self._is_in_doubt.clear()
            await self._prove()

    async def _prove(self) -> None:
        before = _proven(self.reports)
        self.reports = await prove_levels(self._host, self._workspaces, allows_network=self._allows_network)
        if _proven(self.reports) == before:
            return
        for report in self.reports:
            if report.level in before and not report.is_proven:
                logger.error(
                    "Sandbox level %s cannot be proven any more: %s",
                    report.level,
                    report.why_not,
                    extra={"event": "level_lost", "sandbox": report.level, "detail": report.why_not},
                )
            elif report.is_proven and report.level not in before:
                logger.info(
                    "Sandbox level %s is proven again",
                    report.level,
                    extra={"event": "level_proven", "sandbox": report.level},
                )
        self._on_change(self.reports)


def _proven(reports: Sequence[LevelReport]) -> frozenset[SandboxLevel]:
    return frozenset(report.level for report in reports if report.is_proven)
