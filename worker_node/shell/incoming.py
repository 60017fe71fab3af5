"""Hears a connection's bytes in the turn of the loop in which they come; the task of a stream reader needs one more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

GONE: Final = "the dispatcher closed the connection"


class Incoming(asyncio.Protocol):
    """Takes a transport over from its stream reader; the stream's writer goes on."""

    def __init__(
        self, transport: asyncio.WriteTransport, on_data: Callable[[bytes], None], on_end: Callable[[str], None]
    ) -> None:
        """Take who hears; nothing is told before `start`."""
        self._transport = transport
        self._behind = transport.get_protocol()
        self._on_data = on_data
        self._on_end = on_end

    async def start(self, reader: asyncio.StreamReader) -> None:
        """Tell what the reader still has, and from now on what comes."""
        self._transport.set_protocol(self)
        was_over = reader.at_eof() or self._transport.is_closing()
        reader.feed_eof()  # so that it gives all it has without waiting: nothing comes in between
        self._on_data(await reader.read())
        if was_over:  # nobody tells that a second time
            self._on_end(GONE)

    # --- the transport's words ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hear what came."""
        self._on_data(data)

    def eof_received(self) -> None:
        """Hear that no more will come."""
        self._on_end(GONE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear the end."""
        self._on_end(str(exc or "") or GONE)
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold the writer up."""
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._behind.resume_writing()
