"""The WebSocket of a task's output: JSON frames of stdout, stderr and what becomes of the task."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings

from octaskly_site.live.disconnect import while_connected
from octaskly_site.live.door import Door
from octaskly_site.live.frames import JsonFrames, refusal_frame
from octaskly_site.live.readers import Readers, Stopping, TooMany
from tasks_app.api.live import FollowRequest
from tasks_app.live.follow import Follower, LiveSource

_PATH: Final = re.compile(r"/ws/tasks/([0-9A-Za-z-]{1,36})/output/?")
_BEARER: Final = "bearer."

CLOSE_OF_STATUS: Final = 4000
"""What refuses a request over HTTP closes a WebSocket with 4000 and the status."""
RESTARTING: Final = 1012


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
        if match is None or not _is_of_this_site(headers):
            await send({"type": "websocket.close"})  # Before it is accepted: the handshake is refused.
            return
        await send({"type": "websocket.accept", "subprotocol": _subprotocol(scope["subprotocols"])})
        encodings = parse_qs(scope["query_string"].decode("latin1"), max_num_fields=100).get("encoding", ["text"])
        if encodings[-1] not in {"text", "base64"}:
            await _refuse(send, 400, "encoding: must be text or base64")
            return
        response = await self._door.ask(_twin(scope, match[1], headers))
        begin = getattr(response, "begin", None)
        if not isinstance(begin, FollowRequest):
            await _refuse(send, response.status_code, json.loads(response.content).get("detail", ""))
            return
        follower = Follower(source, begin.task_id, ["stdout", "stderr"])
        frames = JsonFrames(is_base64=encodings[-1] == "base64")
        try:
            await while_connected(receive, self._follow(begin.task_id, follower, frames, send))
        except TooMany as error:
            await _refuse(send, 429, str(error))
        except Stopping:
            await send({"type": "websocket.close", "code": RESTARTING})

    async def _follow(self, task_id: str, follower: Follower, frames: JsonFrames, send: Any) -> None:
        with self._readers.reading(task_id):
            async with aclosing(follower.events()) as events:
                async for event in events:
                    for frame in frames.of(event):
                        await send({"type": "websocket.send", "text": frame})
            await send({"type": "websocket.close", "code": 1000})


def _is_of_this_site(headers: dict[bytes, bytes]) -> bool:
    """Return whether no page of another site has opened the connection with the user's cookie.

    Browsers always say whose page it is. Whoever does not say it is no browser, and needs a token.
    """
    origin = headers.get(b"origin")
    if origin is None:
        headers.pop(b"cookie", None)
        return True
    text = origin.decode("latin1")
    return text in settings.CSRF_TRUSTED_ORIGINS or urlsplit(text).netloc == headers.get(b"host", b"").decode("latin1")


def _subprotocol(offered: list[str]) -> str | None:
    """Return the one to answer with: browsers want one of those that they offered, and a token may be the only one."""
    return next((name for name in offered if not name.startswith(_BEARER)), next(iter(offered), None))


def _twin(scope: dict[str, Any], task_id: str, headers: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the request of the REST route that shows the same: who may see that may see this."""
    token = next((name.removeprefix(_BEARER) for name in scope["subprotocols"] if name.startswith(_BEARER)), "")
    if token:
        headers.setdefault(b"authorization", f"Bearer {token}".encode("latin1", "replace"))
    path = f"/api/v1/tasks/{task_id}/stdout"
    return {
        **scope,
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers.items()),
    }


async def _refuse(send: Any, status: int, detail: str) -> None:
    await send({"type": "websocket.send", "text": refusal_frame(status, detail)})
    await send({"type": "websocket.close", "code": CLOSE_OF_STATUS + status})
