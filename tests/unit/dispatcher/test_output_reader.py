"""Answers of workers find those who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dispatcher.shell.link import WorkerLink
from dispatcher.shell.output_reader import OutputReader
from octaskly_wire.messages import OutputPiece, ReadOutput


class Wire:
    """Takes what a link would write."""

    transport = None

    def __init__(self) -> None:
        self.is_closed = False

    def get_extra_info(self, _: str) -> None:
        return None

    def close(self) -> None:
        self.is_closed = True


def run(story: Callable[[OutputReader, WorkerLink], Awaitable[None]]) -> None:
    """Tell a story with a reader and a link that writes nowhere."""

    async def tell() -> None:
        wire: Any = Wire()
        await story(OutputReader(), WorkerLink(asyncio.StreamReader(), wire, "tcp"))

    asyncio.run(tell())


def questions(link: WorkerLink) -> list[ReadOutput]:
    """Return what is queued for the worker."""
    return [message for message in link._outgoing if isinstance(message, ReadOutput)]


def ask(reader: OutputReader, link: WorkerLink, offset: int) -> asyncio.Task[OutputPiece | None]:
    """Ask in a task of its own."""
    return asyncio.ensure_future(reader.read(link, "t.1", "stdout", offset, 100))


def test_each_answer_goes_to_its_question():
    """Answers may come in any order; what nobody asked for is dropped."""

    async def story(reader: OutputReader, link: WorkerLink) -> None:
        first, second = ask(reader, link, 0), ask(reader, link, 50)
        await asyncio.sleep(0)
        one, two = questions(link)
        assert (one.attempt_id, one.stream, one.offset, one.max_bytes, two.offset) == ("t.1", "stdout", 0, 100, 50)
        reader.on_piece(link.link_id, OutputPiece(two.read_id, 50, b"second"))
        reader.on_piece(link.link_id, OutputPiece(two.read_id, 50, b"once more"))
        reader.on_piece(link.link_id, OutputPiece(999, 0, b"stray"))
        reader.on_piece(link.link_id + 1, OutputPiece(one.read_id, 0, b"of another worker"))
        reader.on_piece(link.link_id, OutputPiece(one.read_id, 0, b"first", is_end=True))
        answers = [await first, await second]
        assert [answer and answer.data for answer in answers] == [b"first", b"second"]

    run(story)


def test_a_lost_link_is_told_to_all_who_wait():
    """They get no piece, so that they ask again when the worker is back."""

    async def story(reader: OutputReader, link: WorkerLink) -> None:
        asking = [ask(reader, link, 0), ask(reader, link, 1)]
        await asyncio.sleep(0)
        reader.on_link_lost(link.link_id)
        assert await asyncio.gather(*asking) == [None, None]
        assert not reader._waiting

    run(story)


def test_a_reader_that_leaves_is_forgotten():
    """The answer to its question, which comes all the same, does no harm."""

    async def story(reader: OutputReader, link: WorkerLink) -> None:
        asking = ask(reader, link, 0)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert not reader._waiting[link.link_id]
        reader.on_piece(link.link_id, OutputPiece(questions(link)[0].read_id, 0, b"late"))

    run(story)
