"""Find dispatchers by mDNS. What is found is an address hint: the TLS handshake decides who is who."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from octaskly_wire.announcement import SERVICE_TYPE, Announcement
from octaskly_wire.errors import WireError
from worker_node.config import Address

logger = logging.getLogger(__name__)

RESOLVE_TIMEOUT_MS: Final = 3000
LINGER_S: Final = 0.3
"""After the first match: time for others with the same name, of which all but one are impostors."""


async def find_dispatchers(matches: Callable[[Announcement], bool], at_most: int) -> list[Address]:
    """Wait until a matching dispatcher is announced; return the addresses heard of by then.

    Looks at so many announcements at most: a flood of impostors fills no memory.
    """
    search = _Search(matches, at_most)
    network = AsyncZeroconf()
    try:
        browser = AsyncServiceBrowser(network.zeroconf, SERVICE_TYPE, handlers=[search.on_change])
        try:
            await search.has_match.wait()
            await asyncio.sleep(LINGER_S)
        finally:
            await browser.async_cancel()
            await search.close()
    finally:
        await network.async_close()
    return list(search.addresses)


class _Search:
    def __init__(self, matches: Callable[[Announcement], bool], at_most: int) -> None:
        self.addresses: dict[Address, None] = {}
        self.has_match = asyncio.Event()
        self._matches = matches
        self._at_most = at_most
        self._lookups: set[asyncio.Task[None]] = set()

    def on_change(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is ServiceStateChange.Removed or len(self._lookups) >= self._at_most:
            return
        task = asyncio.get_running_loop().create_task(self._look_up(zeroconf, service_type, name))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def close(self) -> None:
        for task in self._lookups:
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)

    async def _look_up(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS) or not info.port:
            return
        txt = {key: value or "" for key, value in info.decoded_properties.items()}
        try:
            announcement = Announcement.from_txt(info.port, txt)
        except (WireError, ValueError) as error:
            logger.debug("An announcement cannot be read: %s", error)
            return
        if not self._matches(announcement) or len(self.addresses) >= self._at_most:
            logger.debug("Another cluster is announced: %s", announcement.cluster_id)
            return
        for host in info.parsed_scoped_addresses():
            self.addresses[Address(host, info.port, announcement.quic_port)] = None
        if self.addresses:
            self.has_match.set()
