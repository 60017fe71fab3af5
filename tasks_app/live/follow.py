"""Follow a task's output from attempt to attempt until it has ended, as a stream of events.

Theory of operation. While an attempt runs its worker is asked for each next piece. When it has ended, or ended
meanwhile, the rest comes from what was stored of it; offsets count from the stream's beginning in both. While there is
nothing to read the follower waits for the task to change. Nothing is read ahead: the next piece is asked for when the
reader has taken the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from octaskly_wire.vocabulary import OutputStream
from tasks_app.feed import Watch, feed
from tasks_app.live.looks import AttemptLook, Ending, in_thread, look_at_task
from tasks_app.live.stored import StoredStream, open_stored

RECHECK_S: Final = 1.0
"""How soon is noticed what nobody tells: a worker that is back, a change made by another process."""

PIECE_BYTES: Final = 128 << 10


@dataclass(frozen=True, slots=True)
class StatusTold:
    """Where the task stands. What follows belongs to this attempt, 0 before the first; each begins at offset 0."""

    status: str
    attempt: int


@dataclass(frozen=True, slots=True)
class OutputCame:
    """The next bytes of a stream."""

    stream: OutputStream
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BytesLeftOut:
    """So many bytes of a stream cannot be had any more."""

    stream: OutputStream
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """The last event."""

    ending: Ending


FollowEvent = StatusTold | OutputCame | BytesLeftOut | TaskEnded


class WorkerPiece(Protocol):
    """What a worker answers."""

    @property
    def offset(self) -> int:
        """Return where it begins."""

    @property
    def data(self) -> bytes:
        """Return the bytes."""

    @property
    def is_end(self) -> bool:
        """Return whether nothing more comes from the worker."""


class LiveSource(Protocol):
    """The engine, as far as following needs it."""

    async def read_output(
        self, worker_id: str, attempt_id: str, stream: OutputStream, offset: int
    ) -> WorkerPiece | None:
        """Return the next piece of a running attempt's output; None while its worker cannot be reached."""


Read = Callable[[OutputStream, int], Awaitable[WorkerPiece | None]]


class Follower:
    """One reader of one task."""

    def __init__(
        self,
        source: LiveSource,
        task_id: str,
        streams: Sequence[OutputStream],
        offset: int = 0,
        attempt: int = 0,
        *,
        goes_on: bool = False,
    ) -> None:
        """Begin at this offset of the attempt with this number, 0 for the newest.

        A numbered attempt is followed alone, unless it `goes_on`; the newest one and all after it.
        """
        self._source = source
        self._task_id = task_id
        self._number = attempt
        self._stays_with_attempt = attempt > 0 and not goes_on
        self._offsets = dict.fromkeys(streams, offset)

    @property
    def attempt(self) -> int:
        """Return the number of the attempt to which the event at hand belongs, 0 before the first."""
        return self._number

    async def events(self) -> AsyncGenerator[FollowEvent, None]:
        """Yield what happens until the task has ended. To be closed by whoever stops earlier."""
        told: StatusTold | None = None
        with feed.watch([self._task_id]) as watch:
            while (task := await in_thread(look_at_task, self._task_id, self._number)) is not None:
                attempt = task.attempt
                if attempt is not None:
                    self._number = attempt.number
                status = StatusTold(task.status, self._number)
                if status != told and task.ending is None:
                    told = status
                    yield status
                if attempt is not None:
                    async with aclosing(self._read(attempt, watch)) as events:
                        async for event in events:
                            yield event
                    if attempt.ending is not None and self._stays_with_attempt:
                        yield TaskEnded(attempt.ending)
                        return
                    if attempt.ending is not None and task.latest > attempt.number:
                        self._number += 1
                        self._offsets = dict.fromkeys(self._offsets, 0)
                        continue
                if task.ending is not None and (attempt is None or attempt.ending is not None):
                    yield TaskEnded(task.ending)
                    return
                await watch.changed(RECHECK_S)

    async def _read(self, attempt: AttemptLook, watch: Watch) -> AsyncGenerator[FollowEvent, None]:
        """Yield what can be had of the attempt, all streams side by side, until the task changes."""

        async def live(stream: OutputStream, offset: int) -> WorkerPiece | None:
            return await self._source.read_output(attempt.worker_id, attempt.attempt_id, stream, offset)

        opened: dict[OutputStream, StoredStream] = {}

        async def stored(stream: OutputStream, offset: int) -> WorkerPiece:
            kept = opened.get(stream)
            if kept is None:
                kept = await in_thread(open_stored, attempt.attempt_id, stream)
            if not kept.is_in_memory:  # Else it is looked up for each piece: a megabyte for each reader would be much.
                opened[stream] = kept
            if kept.is_in_memory:
                return kept.read(offset, PIECE_BYTES)
            return await asyncio.to_thread(kept.read, offset, PIECE_BYTES)

        read: Read = live if attempt.ending is None else stored
        changes = [asyncio.ensure_future(watch.told())] if attempt.ending is None else []
        asking = {asyncio.ensure_future(read(stream, offset)): stream for stream, offset in self._offsets.items()}
        try:
            while asking and not any(change.done() for change in changes):
                await asyncio.wait([*asking, *changes], return_when=asyncio.FIRST_COMPLETED)
                for answer in [answer for answer in asking if answer.done()]:
                    stream, piece = asking.pop(answer), answer.result()
                    offset = self._offsets[stream]
                    if piece is None or piece.offset < offset:
                        continue
                    if piece.offset > offset:
                        yield BytesLeftOut(stream, offset, piece.offset - offset)
                    if piece.data:
                        yield OutputCame(stream, piece.offset, piece.data)
                    self._offsets[stream] = piece.offset + len(piece.data)
                    if not piece.is_end:
                        asking[asyncio.ensure_future(read(stream, self._offsets[stream]))] = stream
        finally:
            # A piece that is on its way is asked for again, from the offset that was reached.
            waiting = [*asking, *changes]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for kept in opened.values():
                kept.close()
