"""Let go of work as soon as its client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def while_connected(receive: Any, work: Coroutine[Any, Any, None]) -> None:
    """Do the work; cancel it when the client disconnects. What a client sends meanwhile is dropped."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
        continue
