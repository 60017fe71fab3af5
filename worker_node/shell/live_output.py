"""Answer ReadOutput from the captures of running commands: each reader asks for its next piece and waits for it.

Theory of operation. Nothing is pushed, so a reader that is slow, or gone, costs nothing but its one question. What
waits is looked at some milliseconds after the first new byte, or at once when much is there, so that a command that
writes byte by byte does not become a frame a byte. A piece is cut out of the capture only when the link writes it:
what queues there is questions, not data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from octaskly_wire.limits import READ_OUTPUT_S
from octaskly_wire.messages import FromWorker, OutputPiece, ReadOutput
from octaskly_wire.vocabulary import OutputStream
from worker_node.shell.capture import Capture

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
        self._streams: dict[tuple[str, OutputStream], _Stream] = {}
        self._waiting: dict[_Read, None] = {}  # in the order they came

    def begin(self, attempt_id: str, captures: Mapping[OutputStream, Capture]) -> None:
        """Let an attempt's streams be read."""
        for name, capture in captures.items():
            self._streams[attempt_id, name] = _Stream(self, capture)

    def end(self, attempt_id: str) -> None:
        """Hear that nothing more comes; whoever waits is told so. What was written can still be read."""
        for stream in self._streams_of(attempt_id):
            stream.end()

    def forget(self, attempt_id: str) -> None:
        """Let go of the streams: the outcome has them now."""
        self.end(attempt_id)
        for name in ("stdout", "stderr"):
            self._streams.pop((attempt_id, name), None)

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
        stream = self._streams.get((question.attempt_id, question.stream))
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

    def _streams_of(self, attempt_id: str) -> list[_Stream]:
        names: tuple[OutputStream, ...] = ("stdout", "stderr")
        return [self._streams[attempt_id, name] for name in names if (attempt_id, name) in self._streams]


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

    def __init__(self, owner: LiveOutput, capture: Capture) -> None:
        self.capture = capture
        self.is_over = False
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

    def end(self) -> None:
        self.is_over = True
        self._answer_all()

    def _on_growth(self) -> None:
        """Answer at once where much is to be told, a little later where there is little."""
        total = self.capture.total_bytes
        if self.is_over or any(total - read.question.offset >= PROMPT_BYTES for read in self._reads):
            self._answer_all()
        elif self._timer is None and any(total > read.question.offset for read in self._reads):
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._answer_all)

    def _answer_all(self) -> None:
        self._stop_timer()
        total = self.capture.total_bytes
        for read in list(self._reads):
            if self.is_over or total > read.question.offset:
                self._owner.answer(read)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
