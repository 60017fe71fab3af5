"""A request as Daphne has it, with bounds on its body, a place in memory for small bodies only, and fair time-outs."""

from __future__ import annotations

import json
import logging
import tempfile
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any, cast
from urllib.parse import parse_qs

from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor

from octaskly_site.web.limits import MAX_MEMORY_BODY_BYTES, is_file_upload
from octaskly_site.web.room import Room

logger = logging.getLogger(__name__)

LINGER_S = 5.0
"""How long what a refused client still sends is thrown away: closed at once, it would not read the refusal."""

WAIT_PATHS = frozenset({b"/api/v1/tasks/wait", b"/api/v1/tasks/wait/"})


class Request(WebRequest):
    """One request. Daphne's server is ours, so that it has `limits`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.is_live = False
        self._is_refused = False
        self._received = 0
        self._closing: Any = None
        super().__init__(*args, **kwargs)
        self.room = Room(self.server.limits.stalled_s)

    # --- the body ----------------------------------------------------------------------------------

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """Refuse a body that is announced too large; else make room for it, on disk when it is not small."""
        self.content: Any
        self._cap = self.server.limits.cap_of(self.channel._command, self.channel._path)  # noqa: SLF001 - no other way yet
        if length is not None and length > self._cap:
            self.content = BytesIO()
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {self._cap} bytes")
            return
        is_small = length is not None and length <= MAX_MEMORY_BODY_BYTES
        try:
            folder = self.server.limits.scratch_folder
            self.content = BytesIO() if is_small else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - kept open
        except OSError as error:
            self.content = BytesIO()
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"there is no room for the body: {error.strerror}")

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Keep a piece of the body, up to the cap; a body in chunks does not announce its size."""
        self._received += len(data)
        if self._is_refused:
            return
        if self._received > self._cap:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {self._cap} bytes")
            return
        try:
            self.content.write(data)
        except OSError as error:
            logger.warning("A request's body of %d bytes and more was refused: %s", self._received, error)
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"there is no room for the body: {error.strerror}")

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802 - Twisted's name
        """Begin with the request, unless it is refused already."""
        if self._is_refused:
            self.channel.loseConnection()
        else:
            super().requestReceived(command, path, version)

    def take_body(self) -> IO[bytes] | None:
        """Return the open file with the body when it is a large one of the file route; its taker closes it."""
        if self._received <= MAX_MEMORY_BODY_BYTES or not is_file_upload(self.method, self.uri):
            return None
        # Storing it may take longer than an ordinary request.
        self.is_live = True
        body, self.content = self.content, BytesIO()
        return cast("IO[bytes]", body)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._is_refused = True
        self.content.close()
        self.content = BytesIO()
        self.requestHeaders.removeHeader(b"Expect")
        document = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "errors": []}
        body = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.channel.transport.write(head.encode() + body)
        self._closing = cast("Any", reactor).callLater(LINGER_S, self.channel.loseConnection)

    # --- the response ------------------------------------------------------------------------------

    def watch_room(self) -> None:
        """Have the transport tell whether it takes more of the response."""
        if self.producer is None and self.channel is not None and not self.finished:
            if self.channel._waitingForTransport:  # noqa: SLF001 - full already, of the response before this one
                self.room.pauseProducing()
            self.registerProducer(self.room, True)

    def give_up(self) -> None:
        """Cut the client off."""
        if self.channel is not None:
            logger.info("Cut off %s, which read nothing of a response for long", self.client_addr)
            self.channel.forceAbortClient()

    def finish(self) -> None:
        """End the response."""
        if self.producer is not None:
            self.unregisterProducer()
        super().finish()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        """Hear that the client is gone."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.room.stopProducing()
        super().connectionLost(reason)

    # --- time --------------------------------------------------------------------------------------

    def process(self) -> Any:
        """Begin with the request once all of it is there."""
        path, _, query = self.uri.partition(b"?")
        self.is_live = path in WAIT_PATHS or parse_qs(query).get(b"follow", [b""])[-1].lower() in {b"1", b"true"}
        return super().process()

    def check_timeouts(self) -> None:
        """Answer 503 when the application takes too long to begin; what is under way or live takes its time."""
        if not self._response_started and not self.is_live:
            super().check_timeouts()


class RequestFactory(HTTPFactory):
    """Makes connections whose requests are ours."""

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802 - Twisted's name
        """Return a connection."""
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol
