"""Accepts workers over TCP with TLS 1.3, and shows visitors who speak HTTP to the door."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from dispatcher.config import ShellConfig
from dispatcher.shell.door import METHODS, PEEK_BYTES, Door, DoorKeeper, closed
from dispatcher.shell.handshake import Admitted, Gatekeeper, Proven
from dispatcher.shell.link import READ_BYTES, WorkerLink
from dispatcher.shell.reception import CLOSE_TIMEOUT_S, Reception
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.tls_acceptance import TlsAcceptance
from dispatcher.shell.transfer import TransferServer
from octaskly_wire.errors import LinkLost, WrongCipher
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.tls import check_cipher
from octaskly_wire.vocabulary import Transport

logger = logging.getLogger(__name__)


class TcpListener:
    """One listening socket and the connections it gave."""

    def __init__(
        self,
        config: ShellConfig,
        context: Callable[[], ssl.SSLContext],
        gatekeeper: Gatekeeper,
        service: DispatcherService,
        door: Door = closed,
        *,
        transfers: TransferServer,
    ) -> None:
        self._config = config
        self._gatekeeper = gatekeeper
        self._reception = Reception(config, service, transfers)
        self._door = DoorKeeper(door)
        self._acceptance = TlsAcceptance(
            context,
            self._on_connection,
            lambda address, error: gatekeeper.refusals.note_failed_handshake(address, Transport.TCP, error),
            handshake_timeout_s=HANDSHAKE_TIMEOUT_S,
            shutdown_timeout_s=CLOSE_TIMEOUT_S,
            read_bytes=READ_BYTES,  # The default of 64 KiB stops and starts a socket four times for each chunk of output.
        )

    async def start(self) -> int:
        """Listen and return the port; raises OSError when it is taken."""
        return await self._acceptance.start(self._config.bind, self._config.port)

    async def stop(self) -> None:
        """Accept nothing more and wait shortly for the open connections to end."""
        await self._acceptance.close()
        await self._reception.stop()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def admit(link: WorkerLink) -> Admitted | Proven | None:
            tls = writer.get_extra_info("ssl_object")
            self._check_cipher(tls, link.address)
            peeked = await _peek(reader)
            if peeked in METHODS:
                await self._serve_visitor(peeked, link, reader, writer)
                return None
            link.unread(peeked)
            return await self._gatekeeper.admit(link, tls.getpeercert(binary_form=True))

        await self._reception.receive(WorkerLink(reader, writer, Transport.TCP), admit)

    def _check_cipher(self, session: ssl.SSLObject, address: str) -> None:
        try:
            check_cipher(session)
        except WrongCipher as error:
            self._gatekeeper.refusals.note_failed_handshake(address, Transport.TCP, error)
            raise

    async def _serve_visitor(
        self, peeked: bytes, link: WorkerLink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._door.serve(peeked, reader, writer)
        except (OSError, TimeoutError) as error:
            logger.info("A visitor from %s went without its answer: %r", link.address, error)
            link.abort()


async def _peek(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await reader.readexactly(PEEK_BYTES)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise LinkLost(str(error)) from error
