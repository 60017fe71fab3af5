"""Takes the live requests before Django does."""

from __future__ import annotations

from typing import Any

from octaskly_site.live.door import Door
from octaskly_site.live.events import EventsConsumer, is_events, new_hub
from octaskly_site.live.http import LiveHttp, is_live
from octaskly_site.live.readers import Readers
from octaskly_site.live.sign_outs import SignOuts
from octaskly_site.live.websocket import LiveWebSocket
from octaskly_site.threaded_django import ThreadedDjango
from tasks_app.feed import feed
from tasks_app.live.follow import LiveSource, WorkerPiece
from workers_app.signals import worker_changed

__all__ = ["LiveApplication", "is_live"]


class LiveApplication:
    """Serves what lasts: following output, over HTTP and WebSocket, waiting for tasks, and live events."""

    def __init__(self, django: ThreadedDjango) -> None:
        self._readers = Readers()
        door = Door(django)
        self._http = LiveHttp(door, self._readers)
        self._websocket = LiveWebSocket(door, self._readers)
        self._events = EventsConsumer.as_asgi(door=door, readers=self._readers, hub=new_hub(), sign_outs=SignOuts())
        self._source: LiveSource = _NoEngine()
        worker_changed.connect(_on_worker_changed)

    def attach(self, source: LiveSource) -> None:
        """Read from this engine."""
        self._source = source

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request that `is_live`, or one WebSocket."""
        if is_events(scope):
            await self._events(scope, receive, send)
            return
        serve = self._websocket.serve if scope["type"] == "websocket" else self._http.serve
        await serve(self._source, scope, receive, send)

    async def close(self) -> None:
        """End all readers now and take no new ones."""
        await self._readers.close()


def _on_worker_changed(**_: Any) -> None:
    feed.tell()


class _NoEngine:
    """Stands in before the engine is there: no worker can be reached."""

    async def read_output(self, *_: object) -> WorkerPiece | None:
        return None
