"""What a reader gets of a followed task: JSON frames for WebSockets, plain bytes for HTTP. Pure."""

from __future__ import annotations

import codecs
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from octaskly_wire.kept_output import marker
from octaskly_wire.vocabulary import OutputStream
from tasks_app.live.follow import BytesLeftOut, Follower, FollowEvent, OutputCame, StatusTold, TaskEnded


class JsonFrames:
    """Turns events into the texts of frames. Characters of several bytes are not torn between two of them."""

    def __init__(self, *, is_base64: bool) -> None:
        self._is_base64 = is_base64
        self._decoders: dict[OutputStream, _TextDecoder] = {}
        self._attempt = 0

    def of(self, event: FollowEvent) -> Iterator[str]:
        """Yield the frames of one event."""
        match event:
            case OutputCame() if self._is_base64:
                yield _frame("output", stream=event.stream, offset=event.offset, data=b64encode(event.data).decode())
            case OutputCame():
                decoder = self._decoders.setdefault(event.stream, _TextDecoder())
                yield from _text_frames(event.stream, *decoder.decode(event.offset, event.data))
            case BytesLeftOut():
                yield from self._half_characters(event.stream)
                yield _frame("gap", stream=event.stream, bytes=event.count)
            case StatusTold():
                if event.attempt != self._attempt:
                    yield from self._half_characters(*self._decoders)
                self._attempt = event.attempt
                yield _frame("status", status=event.status, attempt=event.attempt)
            case TaskEnded(ending):
                yield from self._half_characters(*self._decoders)
                yield _frame(
                    "end", status=ending.status, exit_code=ending.exit_code, failure_reason=ending.failure_reason
                )

    def _half_characters(self, *streams: OutputStream) -> Iterator[str]:
        """Yield what waited for bytes that do not come any more, as replacement characters."""
        for stream in streams:
            if decoder := self._decoders.pop(stream, None):
                yield from _text_frames(stream, *decoder.finish())


def refusal_frame(status: int, detail: str) -> str:
    """Return the frame that says why the connection is closed."""
    return _frame("refused", status=status, detail=detail)


class PlainText:
    """Turns events into bytes for people: output as it is, lines in brackets for what else is to be known."""

    content_type: Final = b"text/plain; charset=utf-8"

    def __init__(self) -> None:
        self._attempt = 0

    def of(self, event: FollowEvent) -> bytes:
        """Return the bytes of one event, none for most that are no output."""
        match event:
            case OutputCame():
                return event.data
            case BytesLeftOut():
                return marker(event.count)
            case StatusTold():
                is_another = 0 < self._attempt < event.attempt
                self._attempt = event.attempt
                return b"\n[... attempt %d begins ...]\n" % event.attempt if is_another else b""
        return b""


class FramedBytes:
    """Turns events into bytes for programs: a line before each piece says where in which attempt it belongs.

    So a reader whose connection broke goes on at the very byte, whatever lines in brackets it has shown.
    """

    content_type: Final = b"application/vnd.octaskly.frames"

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._attempt = 0

    def of(self, event: FollowEvent) -> bytes:
        """Return the frames of one event."""
        number = self._follower.attempt
        head = b"attempt %d\n" % number if number != self._attempt else b""
        self._attempt = number
        match event:
            case OutputCame():
                return b"%soutput %d %d\n%s" % (head, event.offset, len(event.data), event.data)
            case BytesLeftOut():
                return b"%sgap %d %d\n" % (head, event.offset, event.count)
            case TaskEnded(ending):
                return b"%send %s\n" % (head, ending.status.encode())
        return head


class _TextDecoder:
    """Decodes one stream, and knows at which of its bytes each text begins."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._end = 0

    def decode(self, offset: int, data: bytes) -> tuple[int, str]:
        held, _ = self._decoder.getstate()
        self._end = offset + len(data)
        return offset - len(held), self._decoder.decode(data)

    def finish(self) -> tuple[int, str]:
        held, _ = self._decoder.getstate()
        return self._end - len(held), self._decoder.decode(b"", final=True)


def _text_frames(stream: OutputStream, offset: int, text: str) -> Iterator[str]:
    if text:
        yield _frame("output", stream=stream, offset=offset, data=text)


def _frame(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
