"""Ask workers for pieces of running attempts' output, and hand each answer to whoever asked."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from dispatcher.shell.link import WorkerLink
from octaskly_wire.limits import READ_OUTPUT_S
from octaskly_wire.messages import OutputPiece, ReadOutput
from octaskly_wire.vocabulary import OutputStream

PIECE_BYTES: Final = 128 << 10
"""Asked for at a time: with as many readers as are let in, the pieces in hand take some tens of megabytes at most."""

PATIENCE_S: Final = READ_OUTPUT_S + 10.0
"""A worker that has not answered by then is taken to be lost, whatever its link looks like."""


class OutputReader:
    """The questions that are under way, by link."""

    def __init__(self) -> None:
        self._read_ids = itertools.count(1)
        self._waiting: dict[int, dict[int, asyncio.Future[OutputPiece | None]]] = {}

    async def read(
        self, link: WorkerLink, attempt_id: str, stream: OutputStream, offset: int, max_bytes: int = PIECE_BYTES
    ) -> OutputPiece | None:
        """Return the next piece; None when the link was lost, so that it can be asked again when the worker is back.

        Whoever waits may be cancelled: an answer that comes all the same is dropped.
        """
        read_id = next(self._read_ids)
        answer: asyncio.Future[OutputPiece | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(link.link_id, {})
        waiting[read_id] = answer
        link.send(ReadOutput(read_id, attempt_id, stream, offset, max_bytes))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            waiting.pop(read_id, None)

    def on_piece(self, link_id: int, piece: OutputPiece) -> None:
        """Hand an answer over."""
        answer = self._waiting.get(link_id, {}).get(piece.read_id)
        if answer is not None and not answer.done():
            answer.set_result(piece)

    def on_link_lost(self, link_id: int) -> None:
        """Tell all who wait for this link."""
        for answer in self._waiting.pop(link_id, {}).values():
            if not answer.done():
                answer.set_result(None)
