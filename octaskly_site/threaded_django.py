"""Django behind ASGI: all of a request, from its first middleware to its last, on one thread of a pool.

Django's own handler makes a thread for each request and goes back and forth between it and the loop at each middleware.
Here a request changes threads twice, there and back, and the threads keep their connections to the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import IO, Any, cast

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, connections
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from octaskly_site.api_middleware import api_chain, shows_a_token_only
from octaskly_site.live.disconnect import while_connected
from octaskly_site.submission_lane import SERVER_ERRORS, SUBMISSION_PATHS, SubmissionLane, is_submission


class ThreadedDjango(ASGIHandler):
    """Answers requests, at most `threads` at a time, and submissions beside them."""

    chunk_size = 256 << 10
    """Of a long answer: so much is given away at once, before it is looked whether the client takes more."""

    def __init__(self, threads: int) -> None:
        super(ASGIHandler, self).__init__()  # Its own would load middleware for the loop.
        self.load_middleware(is_async=False)
        api = api_chain(self._get_response)  # type: ignore[attr-defined]  # the stubs lack it
        pages: Any = self._middleware_chain  # type: ignore[has-type]
        self._middleware_chain = lambda request: (api if shows_a_token_only(request) else pages)(request)
        self._matches: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="octaskly-web")
        self._submissions = SubmissionLane(self._respond, self._finish)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        try:
            body = await self._read_body(message, receive)
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

    def resolve_request(self, request: Any) -> Any:
        """Return the view and its arguments; where submissions go is looked up once."""
        if request.path_info not in SUBMISSION_PATHS or hasattr(request, "urlconf"):
            return super().resolve_request(request)
        request.resolver_match = match = self._matches.get(request.path_info)
        if match is None:
            match = self._matches[request.path_info] = super().resolve_request(request)
        return match

    async def answer(self, scope: Any, body: IO[bytes], urlconf: str | None = None) -> HttpResponseBase:
        """Return the answer to a request whose body is this; it is closed unless it is a stream."""
        if is_submission(scope):
            return await self._submissions.answer(scope, body)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, scope, body, urlconf)

    async def _read_body(self, message: Any, receive: Any) -> IO[bytes]:
        """Return the body that begins with this message, in a file when it is large. Raises RequestAborted."""
        if not message.get("more_body"):
            return BytesIO(message.get("body", b""))

        async def replayed() -> Any:
            nonlocal message
            first, message = message, None
            return first or await receive()

        return await self.read_body(replayed)

    def _answer(self, scope: Any, body: IO[bytes], urlconf: str | None) -> HttpResponseBase:
        with body:
            response = self._respond(scope, body, urlconf)
        self._finish(response)
        return response

    def _respond(self, scope: Any, body: IO[bytes], urlconf: str | None = None) -> HttpResponseBase:
        set_script_prefix("/")
        request, refusal = self.create_request(scope, body)
        if request is None:
            return cast("HttpResponseBase", refusal)
        if urlconf is not None:
            request.urlconf = urlconf
        return self.get_response(request)

    def _finish(self, response: Any) -> None:
        """Read what is still to be read, and let go of the rest; outside of any transaction."""
        if response.streaming:
            if not response.is_async:
                # A static file; to read it is no work for the loop.
                response.streaming_content = _at_once(b"".join(response))
        else:
            _close(response)
        if response.status_code >= SERVER_ERRORS:
            connections.close_all()  # Whatever failed may be broken beyond this request.


def _close(response: Any) -> None:
    """Close an answer as it does by itself, but tell of it whom it concerns here: the connection to the database."""
    for close in response._resource_closers:  # noqa: SLF001 - no other way
        with suppress(Exception):
            close()
    response.closed = True
    connection.close_if_unusable_or_obsolete()


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content
