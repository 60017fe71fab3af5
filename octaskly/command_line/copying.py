"""Copies a task's stdout or stderr to ours while it is written, and knows whether it has fallen silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Final

from octaskly.errors import Busy
from octaskly.terminal_text import Neutraliser

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.async_client import AsyncClient

SILENCE_S: Final = 60.0
"""After the task's end its streams end, too; one from which nothing comes for so long is given up."""
LOOK_S: Final = 1.0


class Copy:
    """One stream on its way here."""

    def __init__(
        self,
        client: AsyncClient,
        task_id: str,
        stream: str,
        target: IO[bytes],
        *,
        is_raw: bool,
        before_piece: Callable[[], None],
    ) -> None:
        self._client = client
        self._task_id = task_id
        self._stream = stream
        self._target = target
        self._clean = Neutraliser() if target.isatty() and not is_raw else None
        self._before_piece = before_piece
        self._loop = asyncio.get_running_loop()
        self.is_writing = False
        self._heard_at = 0.0
        self.work = asyncio.create_task(self._copy())

    def is_silent(self, since: float) -> bool:
        """Return whether nothing has come for long. Who reads from us may pause: that is no silence."""
        return not self.is_writing and self._loop.time() - max(since, self._heard_at) > SILENCE_S

    async def _copy(self) -> None:
        """Copy as it comes; where that is refused, wait for the end and copy what was kept."""
        offset = 0
        for follows in (True, False):
            try:
                async for piece in self._client.stream(self._task_id, self._stream, offset=offset, follow=follows):
                    offset += len(piece)
                    await self._write(piece)
                return
            except Busy:
                if not follows:
                    raise
                await wait_for_end(self._client, self._task_id)

    async def _write(self, piece: bytes) -> None:
        self._before_piece()
        self.is_writing = True
        try:
            await asyncio.to_thread(write_all, self._target, self._clean.feed(piece) if self._clean else piece)
        finally:
            self.is_writing = False
            self._heard_at = self._loop.time()


async def drained(copies: Sequence[Copy], longest_s: float | None = None) -> bool:
    """Wait for the ends of the streams of a task that has ended; return whether they came. Raises what broke one."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    while pending := {copy.work for copy in copies if not copy.work.done() and not copy.is_silent(since)}:
        if longest_s is not None and loop.time() - since > longest_s:
            break
        await asyncio.wait(pending, timeout=LOOK_S)
    for copy in copies:
        if copy.work.done():
            copy.work.result()
    return all(copy.work.done() for copy in copies)


async def wait_for_end(client: AsyncClient, task_id: str) -> Task:
    """Return a task once it has ended."""
    while True:
        for task in await client.wait_some([task_id]):
            return task


def write_all(target: IO[bytes], data: bytes) -> None:
    """Write and flush, in a thread: whoever reads may be slow."""
    target.write(data)
    target.flush()
