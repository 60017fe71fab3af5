"""A WebSocket as Daphne has it, with word from the transport whether it takes more."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from autobahn.exception import Disconnected
from daphne.ws_protocol import WebSocketProtocol

from octaskly_site.web.room import Room

logger = logging.getLogger(__name__)


class WebSocket(WebSocketProtocol):
    """One WebSocket."""

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """Take the connection over from the HTTP request that asked for it."""
        self.room = Room(self.factory.server_class.limits.stalled_s)
        transport.unregisterProducer()
        super().makeConnection(transport)
        transport.registerProducer(self.room, True)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        """Hear that the client is gone."""
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
