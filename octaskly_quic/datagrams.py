"""A UDP socket on the loop: takes in what has come, many datagrams a turn, and loses what cannot be sent.

asyncio's own endpoint takes one datagram a turn, which halves what goes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

Address = tuple[Any, ...]
"""A socket's address, as its family has it."""

OnDatagram = Callable[[bytes, Address], None]

BUFFER_BYTES: Final = 4 << 20
MAX_DATAGRAM_BYTES: Final = 2048
"""What is longer is none of ours; the rest of it is cut off."""

DATAGRAMS_A_TURN: Final = 32
"""A few milliseconds of work: after that the loop's other work has its turn."""


class DatagramSocket(asyncio.DatagramProtocol):
    """A bound socket, which is not connected: the machine's address may change under it. Closing is idempotent."""

    def __init__(self, family: int, address: tuple[str, int], on_datagram: OnDatagram) -> None:
        """Bind; raises OSError when the port is taken."""
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._is_open = True
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                with contextlib.suppress(OSError):  # As much as the system grants.
                    self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Begin to take datagrams in."""
        try:
            self._loop.add_reader(self._socket, self._read)
        except NotImplementedError:  # Windows: the loop that can run commands watches no sockets.
            self._transport, _ = await self._loop.create_datagram_endpoint(lambda: self, sock=self._socket)

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram, or lose it: to QUIC both are the network."""
        if self._transport is not None:
            self._transport.sendto(data, address)
        elif self._is_open:
            with contextlib.suppress(OSError):
                self._socket.sendto(data, address)

    def close(self) -> None:
        """Take in no more, and give the port back."""
        if not self._is_open:
            return
        self._is_open = False
        if self._transport is not None:
            self._transport.close()
        else:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            try:
                data, address = self._socket.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:  # Nothing more, or word of an earlier datagram that reached nobody.
                return
            self._on_datagram(data, address)
            if not self._is_open:
                return

    # --- the words of asyncio's own endpoint -------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Take a datagram in."""
        self._on_datagram(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Hear that a datagram was lost."""
