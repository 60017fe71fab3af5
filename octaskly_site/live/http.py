"""The live routes over HTTP: `?follow=1` of a task's output, and waiting for tasks to end."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import Any, Final

from octaskly_site.answers import send_json, send_problem
from octaskly_site.live.disconnect import while_connected
from octaskly_site.live.door import Door, send_response
from octaskly_site.live.frames import FramedBytes, PlainText
from octaskly_site.live.readers import Readers, Stopping, TooMany
from octaskly_site.query import wants_to_follow
from octaskly_wire.vocabulary import OutputStream
from tasks_app.api.ended import ended_among
from tasks_app.api.live import FollowRequest, WaitRequest
from tasks_app.feed import feed
from tasks_app.live.follow import RECHECK_S, Follower, LiveSource
from tasks_app.live.looks import in_thread

MAX_BODY_BYTES: Final = 256 << 10
GATHER_S: Final = 0.01
"""How long a wait for several tasks goes on after the first change: what ends together is told together."""
BUSY_RETRY_S: Final = 5

_OUTPUT: Final = re.compile(r"/api/v1/tasks/[0-9A-Za-z-]{1,36}/(stdout|stderr)/?")
_WAIT: Final = re.compile(r"/api/v1/tasks/wait/?")


def is_live(scope: dict[str, Any]) -> bool:
    """Return whether a request is one of these."""
    path, method = scope["path"], scope["method"]
    if method == "POST":
        return _WAIT.fullmatch(path) is not None
    return method == "GET" and _OUTPUT.fullmatch(path) is not None and wants_to_follow(scope.get("query_string", b""))


class LiveHttp:
    """Serves them."""

    def __init__(self, door: Door, readers: Readers) -> None:
        self._door = door
        self._readers = readers

    async def serve(self, source: LiveSource, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        body = await _read_body(receive)
        if body is None:
            return
        if len(body) > MAX_BODY_BYTES:
            await send_problem(send, 413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            return
        response = await self._door.ask(scope, body)
        match getattr(response, "begin", None):
            case FollowRequest() as begin:
                stream: OutputStream = "stderr" if scope["path"].rstrip("/").endswith("stderr") else "stdout"
                follower = Follower(source, begin.task_id, [stream], begin.offset, begin.attempt, goes_on=begin.goes_on)
                work = self._follow(begin, follower, send)
            case WaitRequest() as begin:
                work = self._wait(begin, send)
            case _:
                await send_response(response, send)
                return
        try:
            await while_connected(receive, work)
        except TooMany as error:
            await send_problem(send, 429, str(error), (b"Retry-After", b"%d" % BUSY_RETRY_S))
        except Stopping:
            # Without an end, so that the client does not take what it has for all there is.
            return

    async def _follow(self, begin: FollowRequest, follower: Follower, send: Any) -> None:
        text = FramedBytes(follower) if begin.is_framed else PlainText()
        with self._readers.reading(begin.task_id):
            headers = [
                (b"Content-Type", text.content_type),
                (b"X-Content-Type-Options", b"nosniff"),
                (b"Cache-Control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            async with aclosing(follower.events()) as events:
                async for event in events:
                    if data := text.of(event):
                        await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _wait(self, wait: WaitRequest, send: Any) -> None:
        tasks: list[dict[str, Any]] = []
        try:
            with self._readers.waiting():
                tasks = await _ended(wait)
        except Stopping:
            pass  # None has ended by now; the client asks the next dispatcher.
        await send_json(send, 200, {"tasks": tasks})


async def _ended(wait: WaitRequest) -> list[dict[str, Any]]:
    """Return those that have ended, as soon as there is one; none at the time-out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait.timeout_s
    with feed.watch(wait.task_ids, only_ends=True) as watch:
        while True:
            tasks = await in_thread(ended_among, wait.task_ids)
            left_s = deadline - loop.time()
            if tasks or left_s <= 0:
                return tasks
            await watch.changed(min(left_s, RECHECK_S))
            if len(wait.task_ids) > 1:
                await asyncio.sleep(GATHER_S)


async def _read_body(receive: Any) -> bytes | None:
    """Return the body, as far as it is looked at; None when the client is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) <= MAX_BODY_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
