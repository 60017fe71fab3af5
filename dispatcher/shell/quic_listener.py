"""Accepts workers over QUIC: one connection a machine, and on it a stream for each of its links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from dispatcher.config import ShellConfig
from dispatcher.shell.handshake import Admitted, Gatekeeper, Proven
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.reception import CLOSE_TIMEOUT_S, Reception
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.transfer import TransferServer
from octaskly_quic.listening import ListenerLimits, QuicListening, listen
from octaskly_quic.stream_transport import QuicStreamTransport
from octaskly_wire.errors import WrongCipher
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.vocabulary import Transport

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration


class QuicListener:
    """One UDP port and the streams it gave."""

    def __init__(
        self,
        config: ShellConfig,
        configuration: Callable[[], QuicConfiguration],
        gatekeeper: Gatekeeper,
        service: DispatcherService,
        *,
        transfers: TransferServer,
    ) -> None:
        self._config = config
        self._configuration = configuration
        self._gatekeeper = gatekeeper
        self._reception = Reception(config, service, transfers)
        self._listening: QuicListening | None = None

    async def start(self) -> int:
        """Listen and return the UDP port; raises OSError when it is taken."""
        limits = ListenerLimits(self._config.max_unauthenticated_links, HANDSHAKE_TIMEOUT_S)
        self._listening = await listen(
            self._config.bind,
            self._config.quic_port,
            self._configuration,
            self._on_stream,
            limits=limits,
            on_refused=self._on_refused,
        )
        return self._listening.port

    async def stop(self) -> None:
        """Accept nothing more and wait shortly for the open streams and connections to end."""
        await self._reception.stop()
        if self._listening is not None:
            self._listening.close()
            await asyncio.wait_for(self._listening.wait_closed(), 2 * CLOSE_TIMEOUT_S)

    def _on_refused(self, address: str, reason: str) -> None:
        self._gatekeeper.refusals.note_failed_handshake(address, Transport.QUIC, WrongCipher(reason))

    async def _on_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def admit(link: WorkerLink) -> Admitted | Proven:
            # No certificate of the worker is shown in QUIC's handshake; the signature in AUTH names this connection's.
            admitted = await self._gatekeeper.admit(link, None)
            cast("QuicStreamTransport", writer.transport).trust()
            return admitted

        await self._reception.receive(WorkerLink(reader, writer, Transport.QUIC), admit)
