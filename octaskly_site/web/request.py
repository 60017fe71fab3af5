"""A request as Daphne has it, with bounds on its body, a place in memory for small bodies only, and fair time-outs."""

from __future__ import annotations

import json
import logging
import tempfile
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any, cast

from daphne.http_protocol import WebRequest
from twisted.internet import reactor
from twisted.web.http import NO_BODY_CODES

from accounts_app.rest.problem_document import PROBLEM_TYPE, problem_document
from octaskly_site.query import wants_to_follow
from octaskly_site.web.head import Line, lines_of, response_head
from octaskly_site.web.limits import LEAST_BODY_BYTES, MAX_MEMORY_BODY_BYTES, is_file_upload
from octaskly_site.web.room import Room

logger = logging.getLogger(__name__)

LINGER_S = 5.0
"""How long what a refused client still sends is thrown away: closed at once, it would not read the refusal."""

WAIT_PATHS = frozenset({b"/api/v1/tasks/wait", b"/api/v1/tasks/wait/"})


RETRY_AFTER_S = 10


def _problem(status: HTTPStatus, detail: str) -> bytes:
    return json.dumps(problem_document(status, detail=detail)).encode()


def _lines_about(problem: bytes) -> list[Line]:
    return [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", b"%d" % len(problem))]


class Request(WebRequest):
    """One request. Daphne's server is ours, so that it has `limits`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.is_live = False
        self._is_refused = False
        self._received = 0
        self._closing: Any = None
        self._is_body_due = False
        self._pace: Any = None
        self._head: Any = None
        # Twisted would look for the fields of forms, in all of the body at once, on the loop that everything is on.
        super().__init__(*args, **kwargs, parsePOSTFormSubmission=False)
        self.room = Room(self.server.limits.stalled_s)

    # Daphne's own do the same in Python, for each look into its table of connections.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    # --- the body ----------------------------------------------------------------------------------

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """Refuse a body that is announced too large; else make room for it, on disk when it is not small."""
        self.content: Any
        self._cap = self.server.limits.cap_of(self.channel._command, self.channel._path)  # noqa: SLF001 - no other way yet
        if objection := self._objection_to(length):
            self.content = BytesIO()
            self._refuse(*objection)
            return
        self._is_body_due = length != 0
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
        self._stop_watching_pace()
        if self._is_refused:
            self.channel.loseConnection()
        else:
            super().requestReceived(command, path, version)

    def take_body(self) -> IO[bytes] | None:
        """Return the open file with the body when that is a large one; its taker closes it."""
        if self._received <= MAX_MEMORY_BODY_BYTES:
            return None
        # Storing a file may take longer than an ordinary request.
        self.is_live = self.is_live or self.is_file_upload
        body, self.content = self.content, BytesIO()
        return cast("IO[bytes]", body)

    @property
    def is_file_upload(self) -> bool:
        """Return whether the request stores a file."""
        return is_file_upload(self.method, self.uri)

    def _objection_to(self, length: int | None) -> tuple[HTTPStatus, str] | None:
        """Return why a body of this length is not read."""
        codings = self.requestHeaders.getRawHeaders(b"Transfer-Encoding", [])
        # HTTP/1.0 has none. A proxy in front could see another end of such a body than Twisted.
        if len(codings) > 1 or (codings and self.channel._version != b"HTTP/1.1"):  # noqa: SLF001 - no other way
            return HTTPStatus.BAD_REQUEST, "the end of the body is told in more ways than one"
        if length is not None and length > self._cap:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {self._cap} bytes"
        is_coded = self.requestHeaders.getRawHeaders(b"Content-Encoding", [b"identity"]) != [b"identity"]
        if is_coded and length != 0 and not is_file_upload(self.channel._command, self.channel._path):  # noqa: SLF001
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding: send the body as it is"
        return None

    def watch_pace(self) -> None:
        """See to it that the rest of the body comes in time, if there is any."""
        if self._is_body_due and self._pace is None:
            self._look_again(0)

    def _look_again(self, received_before: int) -> None:
        """Look in a while whether enough of the body has come."""
        limits = self.server.limits
        is_file = is_file_upload(self.channel._command, self.channel._path)  # noqa: SLF001 - it has no method yet
        time_s = limits.time_to_upload_s if is_file else limits.time_to_ask_s
        self._pace = cast("Any", reactor).callLater(time_s, self._check_pace, received_before, time_s)

    def _check_pace(self, received_before: int, time_s: float) -> None:
        if self._received - received_before >= LEAST_BODY_BYTES:
            self._look_again(self._received)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the body came too slowly: hardly anything in {time_s:g} s")

    def _stop_watching_pace(self) -> None:
        self._is_body_due = False
        if self._pace is not None and self._pace.active():
            self._pace.cancel()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._is_refused = True
        self._stop_watching_pace()
        self.content.close()
        self.content = BytesIO()
        self.requestHeaders.removeHeader(b"Expect")
        body = _problem(status, detail)
        lines = [*_lines_about(body), (b"connection", b"close")]
        self.channel.transport.write(response_head(b"HTTP/1.1", status, status.phrase.encode(), lines) + body)
        self._closing = cast("Any", reactor).callLater(LINGER_S, self.channel.loseConnection)

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Answer what is no request at all, and what the application did not answer in time."""
        document = _problem(HTTPStatus(status), body)
        headers = _lines_about(document)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": document})

    # --- the response ------------------------------------------------------------------------------

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Send what the application says. The head waits for the body: mostly both go as one piece."""
        if message["type"] == "http.response.start" and self._head is None and not self._response_started:
            self._head = message
            return
        head, self._head = self._head, None
        if head is not None:
            if not message.get("more_body") and self._send_whole(head, message.get("body", b"")):
                return
            super().handle_reply(head)
        super().handle_reply(message)

    def _send_whole(self, head: dict[str, Any], body: bytes) -> bool:
        """Send a response as it is, past Twisted's care for each header; False for one that needs that care."""
        if self.finished or self._disconnected or self.channel is None:
            return False
        status, said = head["status"], head.get("headers", ())
        is_plain = self.clientproto == b"HTTP/1.1" and self.method != b"HEAD" and status not in NO_BODY_CODES
        if not is_plain or not any(name.lower() == b"content-length" for name, _ in said):
            return False
        lines = [*said, *lines_of(self.responseHeaders), (b"Server", self.server.server_name.encode())]
        if any(b"\n" in part or b"\r" in part for line in lines for part in line):
            return False
        self._response_started = True
        self.setResponseCode(status)
        self.startedWriting = 1
        self.sentLength = len(body)
        self.channel.write(response_head(self.clientproto, status, self.code_message, lines) + body)
        self.finish()
        return True

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
        self._stop_watching_pace()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.room.stopProducing()
        super().connectionLost(reason)

    # --- time --------------------------------------------------------------------------------------

    def process(self) -> Any:
        """Begin with the request once all of it is there."""
        # Daphne takes this header for a proxy's word, whoever sends it.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        path, _, query = self.uri.partition(b"?")
        self.is_live = path in WAIT_PATHS or (query != b"" and wants_to_follow(query))
        return super().process()

    def check_timeouts(self) -> None:
        """Answer 503 when the application takes too long to begin; what is under way or live takes its time."""
        if not self._response_started and self._head is None and not self.is_live:
            super().check_timeouts()
