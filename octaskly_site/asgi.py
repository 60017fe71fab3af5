"""The ASGI application: Django behind a bound on how many requests are worked on at once."""

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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request when there is room."""
        async with self._room:
            await self._application(scope, receive, send)


def make_application(concurrent_requests: int) -> ProtocolTypeRouter:
    """Return the application of one web server."""
    return ProtocolTypeRouter({"http": BoundedApplication(get_asgi_application(), concurrent_requests)})


application = make_application(concurrent_requests=8)
