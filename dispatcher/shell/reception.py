"""Receives fresh links of one listener, whatever carries them: lets them in, has them served, logs and ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dispatcher.config import ShellConfig
from dispatcher.shell.handshake import Admitted, Proven, Turned
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.transfer import TransferServer
from octaskly_wire.errors import LinkLost, WireError
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S: Final = 5.0

Admit = Callable[[WorkerLink], Awaitable[Admitted | Proven | None]]
"""Returns who was let in, or None where nothing is left to do; raises Turned or WireError."""


class Reception:
    """The links that one listener brought, from their first byte to their last."""

    def __init__(self, config: ShellConfig, service: DispatcherService, transfers: TransferServer) -> None:
        self._max_unauthenticated = config.max_unauthenticated_links
        self._service = service
        self._transfers = transfers
        self._strangers: dict[WorkerLink, None] = {}
        """Links that are not let in yet, the oldest first."""
        self._receiving: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Wait shortly for the links to end."""
        if self._receiving:
            _, pending = await asyncio.wait(self._receiving, timeout=CLOSE_TIMEOUT_S)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def receive(self, link: WorkerLink, admit: Admit) -> None:
        """Serve a link to its end, if it is let in. What goes wrong with it ends it, and nothing else."""
        task = asyncio.current_task()
        if task is not None:
            self._receiving.add(task)
            task.add_done_callback(self._receiving.discard)
        pump = asyncio.create_task(link.pump())
        try:
            await self._converse(link, admit)
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

    async def _converse(self, link: WorkerLink, admit: Admit) -> None:
        if len(self._strangers) >= self._max_unauthenticated:
            # Who idles is the oldest soon; a worker proves itself in milliseconds.
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        self._strangers[link] = None
        try:
            admitted = await admit(link)
        finally:
            self._strangers.pop(link, None)
        if isinstance(admitted, Proven):
            await self._transfers.serve(link, admitted)
        elif admitted is not None:
            await self._service.serve(link, admitted)
