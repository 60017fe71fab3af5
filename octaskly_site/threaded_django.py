"""Django behind ASGI: all of a request, from its first middleware to its last, on one thread of a pool.

Django's own handler makes a thread for each request and goes back and forth between it and the loop at each middleware.
Here a request changes threads twice, there and back, and the threads keep their connections to the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Final, cast

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from octaskly_site.live.disconnect import while_connected

SERVER_ERRORS: Final = 500


class ThreadedDjango(ASGIHandler):
    """Answers requests, at most `threads` at a time."""

    def __init__(self, threads: int) -> None:
        super(ASGIHandler, self).__init__()  # Its own would load middleware for the loop.
        self.load_middleware(is_async=False)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="octaskly-web")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        response = await self.answer(scope, body)
        if not response.streaming:
            await self.send_response(response, send)
            return
        try:
            await while_connected(receive, self.send_response(response, send))
        finally:
            await asyncio.get_running_loop().run_in_executor(self._pool, response.close)

    async def answer(self, scope: Any, body: IO[bytes], urlconf: str | None = None) -> HttpResponseBase:
        """Return the answer to a request whose body is this; it is closed unless it is a stream."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, scope, body, urlconf)

    def _answer(self, scope: Any, body: IO[bytes], urlconf: str | None) -> HttpResponseBase:
        set_script_prefix("/")
        with body:
            request, refusal = self.create_request(scope, body)
            response: Any = refusal
            if request is not None:
                if urlconf is not None:
                    request.urlconf = urlconf
                response = self.get_response(request)
        if response.streaming:
            if not response.is_async:
                # A static file; to read it is no work for the loop.
                response.streaming_content = _at_once(b"".join(response))
        else:
            response.close()
        if response.status_code >= SERVER_ERRORS:
            connections.close_all()  # Whatever failed may be broken beyond this request.
        return cast("HttpResponseBase", response)


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content
