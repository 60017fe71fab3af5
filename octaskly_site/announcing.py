"""Announces the dispatcher by mDNS while it runs, with the CA that join tokens pin: anew when another takes over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from dispatcher.shell.beacon import Beacon
from dispatcher.shell.credentials import Credentials
from octaskly_site.options import DispatcherOptions
from octaskly_wire.announcement import Announcement
from octaskly_wire.limits import PROTOCOL_VERSION

logger = logging.getLogger(__name__)

DIGEST_CHARACTERS = 8


@contextlib.asynccontextmanager
async def announced(options: DispatcherOptions, cluster_id: str, credentials: Credentials) -> AsyncIterator[None]:
    """Announce where wished and possible; without it workers need --dispatcher-addr."""
    if not options.announces_mdns:
        yield
        return
    # Beside the rest: making sure that the name is free takes a second in which work can begin.
    announcing = asyncio.create_task(_announce(options, cluster_id, credentials))
    try:
        yield
    finally:
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)


async def _announce(options: DispatcherOptions, cluster_id: str, credentials: Credentials) -> None:
    while True:
        digest = credentials.ca_digests[-1]
        announcement = Announcement(
            cluster_id=cluster_id,
            port=options.port,
            quic_port=options.quic_port,
            protocol_versions=(PROTOCOL_VERSION,),
            ca_digest_short=digest[:DIGEST_CHARACTERS],
        )
        beacon = Beacon(announcement, options.bind)
        try:
            addresses = await beacon.start()
            logger.info("Announced by mDNS on %s", ", ".join(addresses))
            while credentials.ca_digests[-1] == digest:
                await credentials.replaced()
        except Exception as error:  # noqa: BLE001 - zeroconf raises many kinds; the LAN hint is optional
            logger.warning("Cannot announce by mDNS (%s); give workers --dispatcher-addr", error)
            return
        finally:
            await beacon.stop()
