"""A client's connection: a bounded number of them, and a bounded time for the head of a request.

Twisted waits for the next byte only, so a client that sends one now and then would keep its place for ever.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from daphne.http_protocol import HTTPFactory
from twisted.internet import reactor
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Server as TcpServer
from twisted.web.http import HTTPChannel

from octaskly_site.web.head import lines_of, response_head
from octaskly_site.web.request import Request

logger = logging.getLogger(__name__)

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HTTPChannel):
    """One connection that speaks HTTP."""

    requestFactory = Request  # noqa: N815 - Twisted's name
    factory: Any
    _is_in_head = False
    _head_due: Any = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take the next bytes; the first ones of a head begin its time, unless all of it came at once."""
        self._is_in_head = self._is_in_head or bool(self.line_mode)
        super().dataReceived(data)
        if self._is_in_head and self._head_due is None:
            time_s = self.factory.server.limits.time_to_ask_s
            self._head_due = cast("Any", reactor).callLater(time_s, self._cut_off)
        elif not self.line_mode and self.requests:
            self.requests[-1].watch_pace()

    def allHeadersReceived(self) -> None:  # noqa: N802 - Twisted's name
        """Go on with the body."""
        self._end_head()
        super().allHeadersReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:  # noqa: N802 - Twisted's name
        """Send the head of a response, as one piece: the transport would look at each of thirty."""
        cast("Any", self.transport).write(response_head(version, int(code), reason, lines_of(headers)))

    def requestDone(self, request: Any) -> None:  # noqa: N802 - Twisted's name
        """Go on to the next request, and send the response at once: else the loop asks first whether the socket takes it."""
        super().requestDone(request)
        transport: Any = self.transport
        # One that is to be closed is left to the reactor, which does that behind the last byte.
        if isinstance(transport, TcpServer) and transport.connected and not transport.disconnecting:
            transport.doWrite()

    def connectionLost(self, reason: Any = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """Hear that the client is gone."""
        self._end_head()
        self.factory.open_connections -= 1
        super().connectionLost(reason)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._head_due is not None and self._head_due.active():
            self._head_due.cancel()
        self._head_due = None

    def _cut_off(self) -> None:
        cast("Any", self.transport).write(TOO_SLOW)
        self.loseConnection()


class ConnectionFactory(HTTPFactory):
    """Makes connections, as long as there are not too many."""

    protocol: Any = Connection

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.open_connections = 0
        """WebSockets among them."""

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802 - Twisted's name
        """Return a connection, None where that would be one too many."""
        if self.open_connections >= self.server.limits.max_connections:
            logger.debug("Closed a connection from %s at once: %d are open", addr.host, self.open_connections)
            return None
        self.open_connections += 1
        # Daphne's own puts its request in the place of ours.
        return super(HTTPFactory, self).buildProtocol(addr)

    def log(self, request: Any) -> None:
        """Make no line of an access log, which nobody would read."""

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """Return what TLS may agree on: this is HTTP/1.1."""
        return [b"http/1.1"]
