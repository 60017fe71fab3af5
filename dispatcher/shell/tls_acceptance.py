"""Accepts TCP connections and takes each through TLS itself: a handshake that fails is told, with the peer's address.

`asyncio.start_server(ssl=...)` says nothing of a peer whose certificate was refused, on neither kind of loop, and keeps for
good the context that it was given.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

OnStream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OnFailure = Callable[[str, OSError], None]

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
MAX_HANDSHAKES: Final = 1024
"""At a time. Beyond this the oldest gives way: whoever is honest is done in milliseconds, who idles is the oldest soon."""

ACCEPT_PAUSE_S: Final = 0.1
RELIEF: Final = 64
"""When there is no descriptor left for another connection: so many of the oldest handshakes give theirs back."""


class TlsAcceptance:
    """One listening socket; streams come out of it once their handshake is done."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        on_stream: OnStream,
        on_failure: OnFailure,
        *,
        handshake_timeout_s: float,
        shutdown_timeout_s: float,
        read_bytes: int,
    ) -> None:
        """Ask for a context at each connection, so that a change of it holds from the next one on.

        `on_failure` hears the address and the error of each handshake that failed: an ssl.SSLError where TLS refused the
        peer, another OSError where the peer left or was too slow.
        """
        self._context = context
        self._on_stream = on_stream
        self._on_failure = on_failure
        self._handshake_timeout_s = handshake_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._read_bytes = read_bytes
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port; raises OSError when it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # On Windows it would share the port with whoever has it.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._listening = listening
        self._accepting = asyncio.create_task(self._accept(listening), name="tls-acceptance")
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Accept nothing more and end the handshakes that are not done; streams go on."""
        if self._accepting is None or self._listening is None:
            return
        tasks = [self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        is_short = False
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                if not is_short:
                    logger.warning("Cannot accept a connection: %s", error, extra={"event": "accept_failed"})
                is_short = True
                for handshake in list(self._handshakes)[:RELIEF]:
                    handshake.cancel()
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            is_short = False
            if len(self._handshakes) >= MAX_HANDSHAKES:
                next(iter(self._handshakes)).cancel()
            handshake = loop.create_task(self._shake_hands(connection, peer))
            self._handshakes[handshake] = None
            handshake.add_done_callback(self._forget)

    def _forget(self, handshake: asyncio.Task[None]) -> None:
        self._handshakes.pop(handshake, None)
        if not handshake.cancelled() and (error := handshake.exception()) is not None:
            logger.error("A TLS handshake failed", exc_info=error, extra={"event": "connection_failed"})

    async def _shake_hands(self, connection: socket.socket, peer: Any) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=self._read_bytes, loop=loop)
            return asyncio.StreamReaderProtocol(reader, self._on_stream, loop=loop)

        try:
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=self._shutdown_timeout_s,
            )
        except OSError as error:
            self._on_failure(str(peer[0]), error)
