"""The ASGI application: Django behind a bound on how many requests are worked on, and an orderly end for those."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")


class BoundedApplication:
    """Lets at most `limit` requests in at once; each takes a thread and a database connection."""

    def __init__(self, application: Any, limit: int) -> None:
        self._application = application
        self._room = asyncio.Semaphore(limit)
        self._in_hand: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request when there is room."""
        if self._is_closing:
            headers = [(b"retry-after", b"1"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._in_hand.add(task)
        try:
            async with self._room:
                await self._application(scope, receive, send)
        finally:
            self._in_hand.discard(task)

    async def close(self, patience_s: float) -> None:
        """Take no new request, and wait for those in hand; what takes longer is cancelled.

        A request that was cut off with the loop would leave its thread waiting for ever, and the process with it.
        """
        self._is_closing = True
        if self._in_hand:
            _, late = await asyncio.wait(self._in_hand, timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def make_application(concurrent_requests: int) -> tuple[ProtocolTypeRouter, BoundedApplication]:
    """Return the application of one web server, and the part of it that serves HTTP."""
    bounded = BoundedApplication(get_asgi_application(), concurrent_requests)
    return ProtocolTypeRouter({"http": bounded}), bounded


application, _ = make_application(concurrent_requests=8)
