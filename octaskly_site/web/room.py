"""Whether a client's connection takes more: what an application waits for before it sends on."""

from __future__ import annotations

import asyncio

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Room:
    """Told by the transport that its buffer is full, or has drained. Open again when the connection is gone."""

    def __init__(self, stalled_s: float) -> None:
        self._stalled_s = stalled_s
        self._is_open = asyncio.Event()
        self._is_open.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Make the application wait."""
        self._is_open.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Let the application go on."""
        self._is_open.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Let the application go on to hear that nobody listens any more."""
        self._is_open.set()

    async def wait(self) -> bool:
        """Return once there is room; False when there was none for too long."""
        if self._is_open.is_set():
            return True
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._is_open.wait()
        except TimeoutError:
            return False
        return True
