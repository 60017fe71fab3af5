"""Accepts workers over TCP with TLS 1.3, and shows visitors who speak HTTP to the door."""

from __future__ import annotations

import asyncio
import logging
import ssl

from dispatcher.config import ShellConfig
from dispatcher.shell.door import METHODS, PEEK_BYTES, Door, DoorKeeper, closed
from dispatcher.shell.handshake import Gatekeeper, Proven, Turned
from dispatcher.shell.link import READ_BYTES, WorkerLink
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.transfer import TransferServer
from octaskly_wire.errors import LinkLost, WireError
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.tls import check_cipher

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class TcpListener:
    """One listening socket and the connections it gave."""

    def __init__(
        self,
        config: ShellConfig,
        context: ssl.SSLContext,
        gatekeeper: Gatekeeper,
        service: DispatcherService,
        door: Door = closed,
        *,
        transfers: TransferServer,
    ) -> None:
        self._config = config
        self._context = context
        self._gatekeeper = gatekeeper
        self._service = service
        self._transfers = transfers
        self._door = DoorKeeper(door)
        self._server: asyncio.Server | None = None
        self._unauthenticated = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen and return the port; raises OSError when it is taken."""
        self._server = await asyncio.start_server(
            self._on_connection,
            self._config.bind,
            self._config.port,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            backlog=1024,
            limit=READ_BYTES,  # The default of 64 KiB stops and starts a socket four times for each chunk of output.
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accept nothing more and wait shortly for the open connections to end."""
        if self._server is not None:
            self._server.close()
        if self._connections:
            _, pending = await asyncio.wait(self._connections, timeout=CLOSE_TIMEOUT_S)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        link = WorkerLink(reader, writer, "tcp")
        pump = asyncio.create_task(link.pump())
        try:
            await self._converse(link, reader, writer)
        except Turned:
            pass
        except TimeoutError:
            logger.info(
                "Dropped %s: the handshake took longer than %g s",
                link.address,
                HANDSHAKE_TIMEOUT_S,
                extra={"event": "handshake_timed_out", "address": link.address},
            )
        except LinkLost as error:
            logger.debug("Link %d of %s ended: %s", link.link_id, link.address, error)
        except WireError as error:
            logger.warning(
                "Dropped %s: %s: %s",
                link.address,
                type(error).__name__,
                error,
                extra={"event": "connection_dropped", "address": link.address, "detail": str(error)},
            )
        except asyncio.CancelledError:
            link.abort()
            raise
        except Exception:
            logger.exception(
                "The connection from %s failed",
                link.address,
                extra={"event": "connection_failed", "address": link.address},
            )
        finally:
            link.close()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.gather(pump, return_exceptions=True)
            except TimeoutError:
                link.abort()

    async def _converse(self, link: WorkerLink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        check_cipher(tls)
        if self._unauthenticated >= self._config.max_unauthenticated_links:
            link.abort()
            return
        self._unauthenticated += 1
        try:
            peeked = await _peek(reader)
            if peeked in METHODS:
                await self._serve_visitor(peeked, link, reader, writer)
                return
            link.unread(peeked)
            admitted = await self._gatekeeper.admit(link, tls.getpeercert(binary_form=True))
        finally:
            self._unauthenticated -= 1
        if isinstance(admitted, Proven):
            await self._transfers.serve(link, admitted)
        else:
            await self._service.serve(link, admitted)

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
