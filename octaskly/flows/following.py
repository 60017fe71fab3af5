"""Output while it is written: after a lost connection it goes on at the very byte, however often that happens."""

from __future__ import annotations

from typing import Final

from octaskly.effects import Emit, Flow, NoAnswer, Pause, Read, Request
from octaskly.errors import Unreachable
from octaskly.flows.calls import FIRST_PAUSE_S, LONGEST_PAUSE_S, call
from octaskly.frames import AttemptBegins, End, Frame, FrameReader, Gap, Piece
from octaskly.session import Session
from octaskly_wire.kept_output import marker

SILENCE_S: Final = 1.0


def follow(session: Session, task_id: str, name: str, *, offset: int = 0, attempt: int | None = None) -> Flow[None]:
    """Emit the pieces of stdout or stderr as they come, to the task's end, or to that of the one attempt.

    A line in brackets says where another attempt begins, or where something was left out. The server cuts a reader off
    that takes nothing for a minute; so do restarts and networks. Whoever reads on gets the rest.
    """
    place = _Place(attempt or 0, offset, stays=attempt is not None)
    waited_s, pause_s = 0.0, FIRST_PAUSE_S
    while True:
        yield from call(session, _request(task_id, name, place.query()))
        reader = FrameReader()
        reason = "the stream broke off"
        try:
            while data := (yield Read()):
                waited_s, pause_s = 0.0, FIRST_PAUSE_S
                for frame in reader.feed(data):
                    if shown := place.after(frame):
                        yield Emit(shown)
                if place.has_ended:
                    return
        except NoAnswer as lost:
            reason = str(lost)
        if waited_s >= session.patience_s:
            raise Unreachable(session.url, reason)
        yield Pause(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, LONGEST_PAUSE_S)


def so_far(session: Session, task_id: str, name: str) -> Flow[None]:
    """Emit what a running command has written until now: followed until it is silent for a moment."""
    yield from call(session, _request(task_id, name, {}, SILENCE_S))
    try:
        while piece := (yield Read()):
            yield Emit(piece)
    except NoAnswer:
        return


class _Place:
    """Up to where a stream has come."""

    def __init__(self, attempt: int, offset: int, *, stays: bool) -> None:
        self.has_ended = False
        self._attempt = attempt
        self._offset = offset
        self._stays = stays

    def query(self) -> dict[str, str]:
        """Return how to ask for the rest."""
        query = {"framed": "1"}
        if self._attempt:
            query["attempt" if self._stays else "from_attempt"] = str(self._attempt)
        if self._offset:
            query["offset"] = str(self._offset)
        return query

    def after(self, frame: Frame) -> bytes:
        """Go on behind a frame, and return what is shown of it."""
        match frame:
            case Piece(offset, data):
                self._offset = offset + len(data)
                return data
            case Gap(offset, count):
                self._offset = offset + count
                return marker(count)
            case AttemptBegins(number) if number != self._attempt:
                is_another, self._attempt = self._attempt > 0, number
                if is_another:
                    self._offset = 0
                    return b"\n[... attempt %d begins ...]\n" % number
            case End():
                self.has_ended = True
        return b""


def _request(task_id: str, name: str, query: dict[str, str], timeout_s: float | None = None) -> Request:
    # Silence is what a quiet command makes: no time-out, a dead peer shows by the connection's own checks.
    path = f"/api/v1/tasks/{task_id}/{name}"
    return Request(method="GET", path=path, query={"follow": "1", **query}, is_open=True, timeout_s=timeout_s)
