"""Takes the live requests before Django does."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIHandler

from octaskly_site.live.door import Door
from octaskly_site.live.http import LiveHttp, is_live
from octaskly_site.live.readers import Readers
from octaskly_site.live.websocket import LiveWebSocket
from tasks_app.live.follow import LiveSource, WorkerPiece

__all__ = ["LiveApplication", "is_live"]


class LiveApplication:
    """Serves what lasts: following output, over HTTP and WebSocket, and waiting for tasks."""

    def __init__(self, django: ASGIHandler) -> None:
        self._readers = Readers()
        door = Door(django)
        self._http = LiveHttp(door, self._readers)
        self._websocket = LiveWebSocket(door, self._readers)
        self._source: LiveSource = _NoEngine()

    def attach(self, source: LiveSource) -> None:
        """Read from this engine."""
        self._source = source

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request that `is_live`, or one WebSocket."""
        serve = self._websocket.serve if scope["type"] == "websocket" else self._http.serve
        await serve(self._source, scope, receive, send)

    async def close(self) -> None:
        """End all readers now and take no new ones."""
        await self._readers.close()


class _NoEngine:
    """Stands in before the engine is there: no worker can be reached."""

    async def read_output(self, *_: object) -> WorkerPiece | None:
        return None
