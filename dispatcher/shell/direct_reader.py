"""Reads a connection straight into the place where its messages are cut out: a stream reader copies all of it four times."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from octaskly_wire.limits import MAX_FRAME_BYTES

READ_BYTES: Final = 256 << 10
"""As much as uvloop decrypts at once."""

BUFFER_BYTES: Final = MAX_FRAME_BYTES + READ_BYTES
"""Behind the beginning of the largest frame there is still room to read."""


class DirectReader(asyncio.BufferedProtocol):
    """Takes a transport over from its stream reader, which must have nothing left; the stream's writer goes on."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._behind = transport.get_protocol()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        """Where in the buffer lies what came and is not used."""
        self._has_news = False
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    async def read(self) -> memoryview:
        """Return all that is not used, once there is more of it; nothing at the end. Raises OSError.

        It is good until the next call. Between calls nothing is read: what comes waits with its sender.
        """
        if not (self._has_news or self._is_over):
            self._waiter = asyncio.get_running_loop().create_future()
            self._transport.resume_reading()
            await self._waiter
        if self._has_news:
            self._has_news = False
            return self._buffer[self._start : self._end]
        if self._error is not None:
            raise self._error
        return self._buffer[:0]

    def use(self, count: int) -> None:
        """Let go of so many bytes of what was read."""
        self._start += count
        if len(self._buffer) - self._end < READ_BYTES:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest

    # --- the transport's words ---------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - it has its size
        """Say where bytes go."""
        return self._buffer[self._end : self._end + READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Hear that so many came."""
        self._end += nbytes
        self._has_news = True
        self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Hear that no more will come."""
        self._is_over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear the end."""
        self._is_over, self._error = True, exc
        self._wake()
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold the writer up."""
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._behind.resume_writing()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
