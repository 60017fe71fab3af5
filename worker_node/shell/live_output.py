"""Answer ReadOutput from the captures of running commands: each reader asks for its next piece and waits for it.

Theory of operation. Nothing is pushed, so a reader that is slow, or gone, costs nothing but its one question. What
waits is looked at some milliseconds after the first new byte, or at once when much is there, so that a command that
writes byte by byte does not become a frame a byte. A piece is cut out of the capture only when the link writes it:
what queues there is questions, not data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from octaskly_wire.limits import READ_OUTPUT_S
from octaskly_wire.messages import FromWorker, OutputPiece, ReadOutput
from octaskly_wire.vocabulary import OutputStream
from worker_node.shell.capture import Capture, Captures

GATHER_S: Final = 0.02
"""How long few bytes wait for more."""

PROMPT_BYTES: Final = 64 << 10
"""So many are sent at once."""

MAX_READS: Final = 1024
"""Questions that wait at a time. Beyond it the oldest is told to ask again: most likely nobody waits for it now."""


class LiveOutput:
    """The streams of the commands that run, and who waits for more of them."""

    def __init__(self) -> None:
        self._send: Callable[[Iterator[FromWorker]], None] | None = None
        self._captures: dict[str, Captures] = {}
        self._streams: dict[str, dict[OutputStream, _Stream]] = {}
        """Those that were asked for, by attempt and name."""
        self._waiting: dict[_Read, None] = {}  # in the order they came

    def begin(self, attempt_id: str, captures: Captures) -> None:
        """Let an attempt's streams be read."""
        self._captures[attempt_id] = captures

    def end(self, attempt_id: str) -> None:
        """Hear that nothing more comes; whoever waits is told so. What was written can still be read."""
        self._captures[attempt_id].is_over = True
        for stream in self._streams.get(attempt_id, {}).values():
            stream.answer_all()

    def forget(self, attempt_id: str) -> None:
        """Let go of the streams, of which nothing more comes: the outcome has them now."""
        self._captures.pop(attempt_id).is_over = True
        for stream in self._streams.pop(attempt_id, {}).values():
            stream.answer_all()

    def attach(self, send: Callable[[Iterator[FromWorker]], None]) -> None:
        """Answer over this link from now on; `send` queues what is made into a message when its turn comes."""
        self._send = send

    def detach(self) -> None:
        """Hear that the link is over, and with it whoever waits."""
        self._send = None
        for read in list(self._waiting):
            self._drop(read)

    def serve(self, question: ReadOutput) -> None:
        """Answer now, or as soon as there is something to tell."""
        stream = self._stream(question)
        if stream is None:
            self._tell(iter([OutputPiece(question.read_id, question.offset, b"", is_end=True)]))
            return
        if len(self._waiting) >= MAX_READS:
            self.answer(next(iter(self._waiting)))
        read = _Read(question, stream)
        read.timer = asyncio.get_running_loop().call_later(READ_OUTPUT_S, self.answer, read)
        self._waiting[read] = None
        stream.wait(read)

    def answer(self, read: _Read) -> None:
        """Queue the answer to a question that waits, whatever there is to say."""
        self._drop(read)
        self._tell(read.pieces())

    def _tell(self, messages: Iterator[FromWorker]) -> None:
        if self._send is not None:
            self._send(messages)

    def _drop(self, read: _Read) -> None:
        del self._waiting[read]
        if read.timer is not None:
            read.timer.cancel()
        read.stream.leave(read)

    def _stream(self, question: ReadOutput) -> _Stream | None:
        captures = self._captures.get(question.attempt_id)
        if captures is None:
            return None
        streams = self._streams.setdefault(question.attempt_id, {})
        if question.stream not in streams:
            streams[question.stream] = _Stream(self, captures, question.stream)
        return streams[question.stream]


@dataclass(eq=False, slots=True)
class _Read:
    """One question that waits for its answer."""

    question: ReadOutput
    stream: _Stream
    timer: asyncio.TimerHandle | None = None

    def pieces(self) -> Iterator[FromWorker]:
        """Yield the answer, cut out at this moment."""
        question, stream = self.question, self.stream
        offset, data = stream.capture.read(question.offset, question.max_bytes)
        is_end = stream.is_over and offset + len(data) >= stream.capture.total_bytes
        yield OutputPiece(question.read_id, offset, data, is_end=is_end)


class _Stream:
    """One stream and the questions about it."""

    def __init__(self, owner: LiveOutput, captures: Captures, name: OutputStream) -> None:
        self.capture: Final[Capture] = captures.of(name)
        self._captures = captures
        self._owner = owner
        self._reads: dict[_Read, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, read: _Read) -> None:
        self._reads[read] = None
        self.capture.on_growth = self._on_growth
        self._on_growth()

    def leave(self, read: _Read) -> None:
        del self._reads[read]
        if not self._reads:
            self.capture.on_growth = None
            self._stop_timer()

    @property
    def is_over(self) -> bool:
        return self._captures.is_over

    def _on_growth(self) -> None:
        """Answer at once where much is to be told, a little later where there is little."""
        total = self.capture.total_bytes
        if self.is_over or any(total - read.question.offset >= PROMPT_BYTES for read in self._reads):
            self.answer_all()
        elif self._timer is None and any(total > read.question.offset for read in self._reads):
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self.answer_all)

    def answer_all(self) -> None:
        """Answer whoever has something to hear."""
        self._stop_timer()
        total = self.capture.total_bytes
        for read in list(self._reads):
            if self.is_over or total > read.question.offset:
                self._owner.answer(read)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
