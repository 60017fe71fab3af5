"""The worker answers ReadOutput from its captures: promptly, seldom, and to everybody in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from octaskly_wire.messages import FromWorker, OutputPiece, ReadOutput
from worker_node.shell import live_output
from worker_node.shell.capture import Captures
from worker_node.shell.live_output import MAX_READS, PROMPT_BYTES, LiveOutput

PATIENCE_S = 10.0


class Field:
    """One attempt whose output is written by the test, and a link that keeps the answers."""

    def __init__(self) -> None:
        self.live = LiveOutput()
        captures = Captures()
        self.stdout = captures.of("stdout")
        self.answers: asyncio.Queue[OutputPiece] = asyncio.Queue()
        self.live.attach(self._send)
        self.live.begin("t.1", captures)

    def _send(self, messages: Iterator[FromWorker]) -> None:
        for message in messages:
            assert isinstance(message, OutputPiece)
            self.answers.put_nowait(message)

    def ask(self, read_id: int, offset: int = 0, max_bytes: int = 1 << 17, attempt_id: str = "t.1") -> None:
        """Ask for a piece of stdout."""
        self.live.serve(ReadOutput(read_id, attempt_id, "stdout", offset, max_bytes))

    async def answer(self) -> OutputPiece:
        """Return the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.answers.get()


def run(story: Callable[[Field], Awaitable[None]]) -> None:
    """Tell a story on a loop."""

    async def tell() -> None:
        await story(Field())

    asyncio.run(tell())


def test_many_small_writes_are_one_answer():
    """A command that writes byte by byte does not become a message a byte."""

    async def story(field: Field) -> None:
        field.ask(1)
        for _ in range(100):
            field.stdout.feed(b"x")
        assert field.answers.empty()
        assert await field.answer() == OutputPiece(1, 0, b"x" * 100)
        assert field.stdout.on_growth is None

    run(story)


def test_much_is_answered_at_once():
    """Nobody waits for more where a good piece is there, nor for what was there before the question."""

    async def story(field: Field) -> None:
        field.ask(1)
        field.stdout.feed(b"x" * PROMPT_BYTES)
        field.ask(2, offset=10, max_bytes=100)
        assert field.answers.get_nowait() == OutputPiece(1, 0, b"x" * PROMPT_BYTES)
        assert (await field.answer()) == OutputPiece(2, 10, b"x" * 100)

    run(story)


def test_readers_are_answered_by_where_they_are():
    """One that has read all waits on, beside one that has not."""

    async def story(field: Field) -> None:
        field.stdout.feed(b"abc")
        field.ask(1, offset=3)
        field.ask(2, offset=1)
        assert await field.answer() == OutputPiece(2, 1, b"bc")
        field.stdout.feed(b"d")
        assert await field.answer() == OutputPiece(1, 3, b"d")

    run(story)


def test_the_end_is_told_to_all_who_wait():
    """With what is still to be read, and as an end only to those who have it all then."""

    async def story(field: Field) -> None:
        field.stdout.feed(b"abc")
        field.ask(1, offset=3)
        field.ask(2, max_bytes=2)
        field.live.end("t.1")
        answers = {piece.read_id: piece for piece in (await field.answer(), await field.answer())}
        assert answers == {1: OutputPiece(1, 3, b"", is_end=True), 2: OutputPiece(2, 0, b"ab")}
        field.ask(3, offset=2)
        assert field.answers.get_nowait() == OutputPiece(3, 2, b"c", is_end=True)
        field.live.forget("t.1")
        field.ask(4, offset=2)
        assert field.answers.get_nowait() == OutputPiece(4, 2, b"", is_end=True)

    run(story)


def test_an_attempt_that_is_not_here_has_no_more():
    """Whoever asks for one is not left to wait."""

    async def story(field: Field) -> None:
        field.ask(1, offset=7, attempt_id="other.1")
        assert field.answers.get_nowait() == OutputPiece(1, 7, b"", is_end=True)

    run(story)


def test_silence_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch):
    """An empty answer that is no end: the reader asks again, and both ends know that the other lives."""
    monkeypatch.setattr(live_output, "READ_OUTPUT_S", 0.05)

    async def story(field: Field) -> None:
        field.ask(1)
        assert await field.answer() == OutputPiece(1, 0, b"")
        assert field.stdout.on_growth is None

    run(story)


def test_questions_are_bounded():
    """Beyond so many the oldest gives way, and is told so."""

    async def story(field: Field) -> None:
        for read_id in range(MAX_READS + 2):
            field.ask(read_id)
        assert [field.answers.get_nowait() for _ in range(2)] == [OutputPiece(0, 0, b""), OutputPiece(1, 0, b"")]
        assert field.answers.empty()

    run(story)


def test_questions_end_with_their_link():
    """What the next link asks is answered there, and nothing that the lost one had asked."""

    async def story(field: Field) -> None:
        field.ask(1)
        field.live.detach()
        assert field.stdout.on_growth is None
        field.stdout.feed(b"abc")
        field.live.attach(field._send)
        field.ask(2)
        assert await field.answer() == OutputPiece(2, 0, b"abc")
        assert field.answers.empty()

    run(story)
