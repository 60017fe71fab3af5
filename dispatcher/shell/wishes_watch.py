"""Notices what people asked for: at once when this process wrote it, within a quarter of a second when another did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dispatcher.ports import Store, Wishes
from dispatcher.shell.writer import StoreWriter

POLL_S: Final = 0.25
"""How often the store is asked whether anybody wrote; a revocation by another process must hold within a second."""
MAX_SHARE: Final = 0.1
LONGEST_POLL_S: Final = 0.5
"""Looks that take long come less often, so that they take no more than this share of the time, but not much less."""


class WishesWatch:
    """Looks, and gives what it found to whoever acts on it. Everything is called on the loop."""

    def __init__(self, store: Store, writer: StoreWriter, act: Callable[[Wishes], Awaitable[None]]) -> None:
        """Begin without having looked."""
        self._store = store
        self._writer = writer
        self._act = act
        self._wanted = asyncio.Event()

    def look_now(self) -> None:
        """Have a look at once."""
        self._wanted.set()

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = POLL_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
            except TimeoutError:
                if not await self._writer.call(self._store.has_news):
                    continue
            self._wanted.clear()
            began_at = loop.time()
            await self._act(await self._writer.call(self._store.wishes))
            pause_s = min(max(POLL_S, (loop.time() - began_at) / MAX_SHARE), LONGEST_POLL_S)
