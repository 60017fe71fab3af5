"""Lets go of files that are over their time: every ten minutes beside the dispatcher's work, or once by command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError, connections

from octaskly_site import former_keys
from tasks_app.blob_store import store
from tasks_app.retention import Expired, expire

logger = logging.getLogger(__name__)

FIRST_AFTER_S = 60.0
"""A start has better things to do."""
EVERY_S = 600.0


def expire_now(*, removes_contents: bool = True) -> Expired:
    """Let go of what is over its time by the settings; contents only in the process that takes them in, too."""
    return expire(
        datetime.now(UTC),
        store() if removes_contents else None,
        keep_outputs_days=settings.OCTASKLY_KEEP_OUTPUTS_DAYS,
        keep_uploads_days=settings.OCTASKLY_KEEP_UPLOADS_DAYS,
    )


@contextlib.asynccontextmanager
async def files_expire() -> AsyncIterator[None]:
    """Do so again and again, on a thread of the pool, until left."""
    rounds = asyncio.create_task(_rounds(), name="expiry")
    try:
        yield
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)


async def _rounds() -> None:
    await asyncio.sleep(FIRST_AFTER_S)
    while True:
        await asyncio.get_running_loop().run_in_executor(None, _round)
        await asyncio.sleep(EVERY_S)


def _round() -> None:
    try:
        former_keys.forget_expired(datetime.now(UTC))
        expired = expire_now()
        store().sweep()
    except (DatabaseError, OSError) as error:  # A full disk, a lock that was held for long: the next round tries again.
        logger.warning("Files that are over their time stay for now: %s", error)
    else:
        if any(asdict(expired).values()):
            logger.info("Files expired: %s", ", ".join(f"{name} {count}" for name, count in asdict(expired).items()))
    finally:
        connections.close_all()
