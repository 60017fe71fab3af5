"""The ASGI application: live requests, Django behind a bound on how many are worked on, and an orderly end for both."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django

from octaskly_site.answers import send_problem

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")


MAX_DOWNLOADS = 64
"""Responses that are sent piece by piece at once, beside the requests that are worked on."""


class BoundedApplication:
    """Lets at most `limit` requests in at once; each takes a thread and a database connection.

    One whose response is on its way in pieces makes room for another: a client that reads slowly holds up nobody.
    """

    def __init__(self, application: Any, limit: int) -> None:
        self._application = application
        self._room = asyncio.Semaphore(limit)
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        self._in_hand: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request when there is room."""
        if self._is_closing:
            detail = "the dispatcher is stopping"
            await send_problem(send, 503, detail, (b"Retry-After", b"1"), (b"Connection", b"close"))
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._in_hand.add(task)
        try:
            await self._serve(scope, receive, send)
        finally:
            self._in_hand.discard(task)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        taken = self._room
        await taken.acquire()

        async def send_on(message: Any) -> None:
            nonlocal taken
            if message.get("more_body") and taken is self._room:
                await self._downloads.acquire()
                self._room.release()
                taken = self._downloads
            await send(message)

        try:
            await self._application(scope, receive, send_on)
        finally:
            taken.release()

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


class Application:
    """What the web server calls: live requests go their own way, all others to Django."""

    def __init__(self, concurrent_requests: int) -> None:
        django.setup(set_prefix=False)
        # Only now that Django is set up can what stands on its models be imported.
        from octaskly_site.live.application import LiveApplication, is_live
        from octaskly_site.live.door import MAX_QUESTIONS
        from octaskly_site.threaded_django import ThreadedDjango

        served = ThreadedDjango(concurrent_requests + MAX_QUESTIONS)
        self.live = LiveApplication(served)
        self._is_live = is_live
        self._bounded = BoundedApplication(served, concurrent_requests)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or WebSocket."""
        is_live = scope["type"] == "websocket" or (scope["type"] == "http" and self._is_live(scope))
        await (self.live if is_live else self._bounded)(scope, receive, send)

    async def close(self, patience_s: float) -> None:
        """Take nothing new, end the live requests, and wait for those in hand."""
        await self.live.close()
        await self._bounded.close(patience_s)


application = Application(concurrent_requests=8)
