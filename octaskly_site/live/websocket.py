"""The WebSocket of a task's output: JSON frames of stdout, stderr and what becomes of the task."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from typing import Any, Final

from octaskly_site.live.disconnect import while_connected
from octaskly_site.live.door import Door
from octaskly_site.live.frames import JsonFrames
from octaskly_site.live.handshake import RESTARTING, is_of_this_site, refuse, subprotocol_of, twin_of
from octaskly_site.live.readers import Readers, Stopping, TooMany
from octaskly_site.query import value_of
from tasks_app.api.live import FollowRequest
from tasks_app.live.follow import Follower, LiveSource

_PATH: Final = re.compile(r"/ws/tasks/([0-9A-Za-z-]{1,36})/output/?")


class LiveWebSocket:
    """Serves `/ws/tasks/{id}/output`."""

    def __init__(self, door: Door, readers: Readers) -> None:
        self._door = door
        self._readers = readers

    async def serve(self, source: LiveSource, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection."""
        if (await receive())["type"] != "websocket.connect":
            return
        match = _PATH.fullmatch(scope["path"])
        headers = dict(scope["headers"])
        if match is None or not is_of_this_site(headers):
            await send({"type": "websocket.close"})  # Before it is accepted: the handshake is refused.
            return
        await send({"type": "websocket.accept", "subprotocol": subprotocol_of(scope["subprotocols"])})
        encoding = value_of(scope["query_string"], "encoding", "text")
        if encoding not in {"text", "base64"}:
            await refuse(send, 400, "encoding: must be text or base64")
            return
        response = await self._door.ask(twin_of(scope, f"/api/v1/tasks/{match[1]}/stdout", headers))
        begin = getattr(response, "begin", None)
        if not isinstance(begin, FollowRequest):
            await refuse(send, response.status_code, json.loads(response.content).get("detail", ""))
            return
        follower = Follower(source, begin.task_id, ["stdout", "stderr"])
        frames = JsonFrames(is_base64=encoding == "base64")
        try:
            await while_connected(receive, self._follow(begin.task_id, follower, frames, send))
        except TooMany as error:
            await refuse(send, 429, str(error))
        except Stopping:
            await send({"type": "websocket.close", "code": RESTARTING})

    async def _follow(self, task_id: str, follower: Follower, frames: JsonFrames, send: Any) -> None:
        with self._readers.reading(task_id):
            async with aclosing(follower.events()) as events:
                async for event in events:
                    for frame in frames.of(event):
                        await send({"type": "websocket.send", "text": frame})
            await send({"type": "websocket.close", "code": 1000})
