"""A WebSocket as Daphne has it, with word from the transport whether it takes more."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from autobahn.exception import Disconnected
from daphne.ws_protocol import WebSocketProtocol

from octaskly_site.web.room import Room

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 4 << 10
MAX_FRAMES = 200
FRAMES_WINDOW_S = 10.0
"""Clients have nothing to say over our WebSockets but pongs and the end; frame after frame is a flood."""


class WebSocket(WebSocketProtocol):
    """One WebSocket."""

    _window_began = float("-inf")
    _frames = 0

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """Take the connection over from the HTTP request that asked for it."""
        self.room = Room(self.factory.server_class.limits.stalled_s)
        transport.unregisterProducer()
        super().makeConnection(transport)
        transport.registerProducer(self.room, True)

    def onFrameBegin(self) -> None:  # noqa: N802 - autobahn's name
        """Count the frame, and cut off who sends too many or too large ones. Autobahn's own bound is for answers, too."""
        now = time.monotonic()
        if now - self._window_began > FRAMES_WINDOW_S:
            self._window_began, self._frames = now, 0
        self._frames += 1
        super().onFrameBegin()
        if self._frames > MAX_FRAMES or self.current_frame.length > MAX_FRAME_BYTES:
            logger.info("Cut off %s, which sends too much over its WebSocket", self.client_addr)
            self.dropConnection(abort=True)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        """Hear that the client is gone."""
        self.factory.server_class.http_factory.open_connections -= 1
        self.room.stopProducing()
        super().connectionLost(reason)

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: FBT001, FBT002, N802 - Daphne's name
        """Send, unless the client has just left: the application hears of that by itself."""
        with suppress(Disconnected):
            super().serverSend(content, binary)

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802 - Daphne's name
        """Close the connection, with the codes of servers, too, which autobahn's own method refuses: 1011, 1012."""
        self.sendCloseFrame(code=1000 if code is None else code)

    def give_up(self) -> None:
        """Cut the client off."""
        logger.info("Cut off %s, which read nothing of its WebSocket for long", self.client_addr)
        self.transport.abortConnection()

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: FBT001, FBT002, N802 - autobahn's method
        # A transport with a producer waits for more from it, under TLS for ever.
        self.transport.unregisterProducer()
        self.room.stopProducing()
        super()._closeConnection(abort)
