"""Notices what people asked for: at once when this process wrote it, within half a second when another did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from dispatcher.ports import Store, Wishes
from dispatcher.shell.beat import until_next_beat
from dispatcher.shell.writer import StoreWriter

POLL_S: Final = 0.5
"""How often the store is asked whether anybody wrote; a revocation by another process must hold within a second."""


class WishesWatch:
    """Looks, and gives what it found to whoever acts on it. Everything is called on the loop."""

    def __init__(self, store: Store, writer: StoreWriter, act: Callable[[Wishes], Awaitable[None]]) -> None:
        """Begin without having looked."""
        self._store = store
        self._writer = writer
        self._act = act
        self._wanted = asyncio.Event()
        self._wants_all = False
        self._worker_ids: set[str] = set()

    def look_now(self) -> None:
        """Have a look at once."""
        self._wants_all = True
        self._wanted.set()

    def look_at(self, worker_id: str) -> None:
        """See at once what the whitelist says of one worker. What was looked at before may be told of it again."""
        self._worker_ids.add(worker_id)
        self._wanted.set()

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + until_next_beat(POLL_S, loop.time())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(poll_at):
                    await self._wanted.wait()
            self._wanted.clear()
            if self._worker_ids:
                worker_ids, self._worker_ids = list(self._worker_ids), set()
                await self._act(Wishes([], await self._writer.call(partial(self._store.whitelist_entries, worker_ids))))
            is_due = loop.time() >= poll_at  # However often workers are looked at meanwhile.
            if self._wants_all or (is_due and await self._writer.call(self._store.has_news)):
                self._wants_all = False
                await self._act(await self._writer.call(self._store.wishes))
                is_due = True
            if is_due:
                poll_at = loop.time() + until_next_beat(POLL_S, loop.time())
