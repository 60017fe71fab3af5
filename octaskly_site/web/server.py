"""Daphne's server on a socket that is bound already, with back-pressure and large bodies as files."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import IO, Any, cast

from daphne.server import Server
from twisted.internet import defer, reactor

from octaskly_site.web.certificate import ServerCertificate
from octaskly_site.web.connection import ConnectionFactory
from octaskly_site.web.https import behind_tls
from octaskly_site.web.limits import SCOPE_KEY, WebLimits
from octaskly_site.web.request import Request
from octaskly_site.web.websocket import WebSocket

logger = logging.getLogger(__name__)

READ_BYTES = 256 << 10
_PIECES_KEY = "octaskly.pieces"
"""Where `_GatheredBodies` finds a large body."""


class WebServer(Server):
    """Serves an application on one listening socket."""

    def __init__(
        self,
        application: Any,
        listening: socket.socket,
        limits: WebLimits,
        own: ServerCertificate | None,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(
            application=_GatheredBodies(application),
            endpoints=["the listening socket"],  # Daphne insists on one; ours is adopted when it is ready.
            signal_handlers=False,
            ready_callable=self._begin,
            http_timeout=limits.time_to_answer_s,
            request_buffer_size=READ_BYTES,
            server_name="octaskly",
            verbosity=0,
            application_close_timeout=5,
        )
        self.endpoints: list[str] = []
        self.limits = limits
        self._listening = listening
        self._own = own
        self._on_ready = on_ready

    def _begin(self) -> None:
        self.http_factory = ConnectionFactory(self)
        self.ws_factory.protocol = WebSocket
        factory = behind_tls(self.http_factory, self._own) if self._own else self.http_factory
        # Twisted duplicates the descriptor.
        cast("Any", reactor).adoptStreamPort(self._listening.fileno(), self._listening.family, factory)
        self._listening.close()
        self._on_ready()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Start the application on a request; a large body goes with the scope."""
        body = protocol.take_body() if isinstance(protocol, Request) else None
        if body is not None:
            scope[SCOPE_KEY if protocol.is_file_upload else _PIECES_KEY] = body
        try:
            return super().create_application(protocol, scope)
        finally:
            if body is not None:
                task = self.connections.get(protocol, {}).get("application_instance")
                if task is None:
                    body.close()
                else:
                    task.add_done_callback(lambda _: body.close())

    async def handle_reply(self, protocol: Any, message: Any) -> None:
        """Pass on what the application says, and let it wait until the client's connection takes more."""
        kind = message.get("type")
        is_stream = kind == "http.response.body" and message.get("more_body", False)
        if is_stream:
            protocol.watch_room()
        await super().handle_reply(protocol, message)
        if (is_stream or kind == "websocket.send") and not await protocol.room.wait():
            protocol.give_up()

    def kill_all_applications(self) -> Any:
        """Cancel what still runs at the end. Daphne's own fails where a connection has no application yet."""
        running = [task for details in self.connections.values() if (task := details.get("application_instance"))]
        for task in running:
            task.cancel()
        return defer.Deferred.fromFuture(asyncio.ensure_future(asyncio.wait(running))) if running else None


class _GatheredBodies:
    """Gives an application a large body from the disk, piece by piece as it asks: Daphne would put all into memory."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        file = scope.pop(_PIECES_KEY, None)
        await self._application(scope, receive if file is None else _pieces_of(file, receive), send)


def _pieces_of(file: IO[bytes], receive: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return an ASGI `receive` of a body that is in a file."""
    has_begun = is_over = False

    async def next_message() -> dict[str, Any]:
        nonlocal has_begun, is_over
        if is_over or not has_begun:
            # The first is the empty body that Daphne is left with; after the last one comes the client's end.
            message: dict[str, Any] = await receive()
            if is_over or message["type"] != "http.request":
                return message
            has_begun = True
        piece = file.read(READ_BYTES)
        is_over = len(piece) < READ_BYTES
        return {"type": "http.request", "body": piece, "more_body": not is_over}

    return next_message
