"""Hears at once that nobody listens on a UDP port.

The system tells only a connected socket, and the one of a connection that shall outlive its addresses is not: so a second
socket asks, as long as nobody has answered. Its answer is worth as much as a refusal over TCP: it ends a try, no more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from octaskly_quic.datagrams import Address

KNOCK: Final = b"\0"
"""No QUIC: whoever listens drops it unread."""


@asynccontextmanager
async def refusals(family: int, address: Address, on_refused: Callable[[OSError], None]) -> AsyncIterator[None]:
    """Tell of a refusal for as long as this is open; raises OSError where no way leads there."""
    knocking = socket.socket(family, socket.SOCK_DGRAM)
    try:
        knocking.setblocking(False)
        knocking.connect(address)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Knocker(on_refused), sock=knocking
        )
    except BaseException:
        knocking.close()
        raise
    try:
        yield
    finally:
        transport.close()


class _Knocker(asyncio.DatagramProtocol):
    def __init__(self, on_refused: Callable[[OSError], None]) -> None:
        self._on_refused = on_refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.DatagramTransport", transport).sendto(KNOCK)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionError):
            self._on_refused(exc)
