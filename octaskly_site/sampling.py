"""Samples the cluster every ten seconds beside the dispatcher's work, and keeps the samples few."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connections

from metrics_app.sampling import Sampler, housekeep
from metrics_app.steps import next_sample_in
from octaskly_site import status

logger = logging.getLogger(__name__)

HOUSEKEEPING_EVERY: Final = 6
"""Samples."""


@contextlib.asynccontextmanager
async def samples_are_taken() -> AsyncIterator[None]:
    """Do so on a thread of the pool until left."""
    rounds = asyncio.create_task(Rounds().run(), name="samples")
    try:
        yield
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)


class Rounds:
    """One round after the other; a database that cannot be written costs the samples of that time and one log line."""

    def __init__(self) -> None:
        self._sampler = Sampler()
        self._number = 0
        self._was_told = False

    async def run(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._guarded, self._sampler.recall)
        while True:
            await asyncio.sleep(next_sample_in(time.time()))
            await loop.run_in_executor(None, self.take_one)

    def take_one(self) -> None:
        """Take one sample, and every minute keep house; never raises for the database's or the disk's fault."""
        if status.read_only_reason() is not None:
            return  # What room is left is kept for those who must sign in to make some.
        self._guarded(self._sampler.sample)
        self._number += 1
        if self._number % HOUSEKEEPING_EVERY == 0:
            self._guarded(lambda now: housekeep(now, settings.OCTASKLY_KEEP_VITALS_DAYS))

    def _guarded(self, step: Callable[[float], None]) -> None:
        try:
            step(time.time())
        except (DatabaseError, OSError) as error:
            if not self._was_told:
                logger.warning("No samples of vitals for now: %s", error, extra={"event": "samples_skipped"})
            self._was_told = True
        else:
            if self._was_told:
                logger.info("Samples of vitals are taken again", extra={"event": "samples_resumed"})
            self._was_told = False
        finally:
            connections.close_all()
