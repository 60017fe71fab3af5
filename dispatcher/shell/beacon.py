"""Announces the dispatcher by mDNS. The announcement is an address hint and proves nothing."""

from __future__ import annotations

import socket

import psutil
from zeroconf import InterfaceChoice, IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from octaskly_wire.announcement import SERVICE_TYPE, Announcement


def lan_addresses() -> list[str]:
    """Return this machine's IPv4 addresses that other machines may reach, loopback left out."""
    stats = psutil.net_if_stats()
    return [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET
        and not address.address.startswith("127.")
        and (name not in stats or stats[name].isup)
    ]


class Beacon:
    """Keeps one mDNS record alive."""

    def __init__(self, announcement: Announcement, bind: str) -> None:
        self._announcement = announcement
        self._bind = bind
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> list[str]:
        """Announce; return the announced addresses. Raises OSError where multicast is not possible."""
        is_any = self._bind in {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
        addresses = lan_addresses() if is_any else [self._bind]
        addresses = addresses or ["127.0.0.1"]
        interfaces = InterfaceChoice.All if is_any else [self._bind]
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        name = f"octaskly-{self._announcement.cluster_id[:8]}"
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{name}.{SERVICE_TYPE}",
            addresses=[socket.inet_aton(address) for address in addresses],
            port=self._announcement.port,
            properties=dict(self._announcement.to_txt()),
            server=f"{name}.local.",
        )
        await self._zeroconf.async_register_service(info, allow_name_change=True)
        return addresses

    async def stop(self) -> None:
        """Take the announcement back."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
            self._zeroconf = None
