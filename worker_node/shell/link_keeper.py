"""Keeps a worker linked: join, serve the link with heartbeats until it ends, join again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from octaskly_wire.errors import WireError
from octaskly_wire.messages import ToWorker, Welcome
from octaskly_wire.vocabulary import Admission
from worker_node.core import reactor
from worker_node.core.backoff import reconnect_delay_s
from worker_node.core.effects import Effect
from worker_node.core.state import WorkerState
from worker_node.shell import machine
from worker_node.shell.dialing import Connection
from worker_node.shell.identity_keeper import IdentityKeeper
from worker_node.shell.joiner import CannotJoin, Joiner
from worker_node.shell.keyfile import Identity
from worker_node.shell.link import Link
from worker_node.shell.live_output import LiveOutput
from worker_node.shell.proving import DispatcherRefused
from worker_node.shell.transfers import Transfers
from worker_node.shell.vitals import VitalSigns

logger = logging.getLogger(__name__)

MIN_HEARTBEAT_INTERVAL_S: Final = 0.05
"""Whatever a dispatcher asks for, heartbeats shall not fill the worker's time."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what links bring."""

    on_messages: Callable[[Iterable[ToWorker]], None]
    perform: Callable[[list[Effect]], None]
    on_cannot_join: Callable[[str], None]


class LinkKeeper:
    """Holds the link while there is one. What uses the link is attached to it and detached with it."""

    def __init__(
        self,
        joiner: Joiner,
        state: WorkerState,
        live: LiveOutput,
        transfers: Transfers,
        vitals: VitalSigns,
        identity: IdentityKeeper,
        listener: Listener,
    ) -> None:
        """Take what speaks over links; nothing is dialled before `run`."""
        self._joiner = joiner
        self._state = state
        self._live = live
        self._transfers = transfers
        self._vitals = vitals
        self._identity = identity
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self.link: Link | None = None
        self._connection: Connection | None = None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        failures = 0
        while True:
            try:
                connection, welcome = await self._joiner.join()
            except DispatcherRefused as error:
                self._listener.perform(reactor.on_refused(error.refusal))
                logger.warning("The dispatcher refused the connection: %s", error, extra={"event": "link_refused"})
            except CannotJoin as error:
                self._listener.on_cannot_join(str(error))
            except (OSError, WireError, TimeoutError) as error:
                # One line a failure would fill the log of a worker whose dispatcher is away for a night.
                level = logging.WARNING if failures in {0, 5} else logging.DEBUG
                detail = str(error) or "no answer in time"
                logger.log(level, "No connection: %s", detail, extra={"event": "link_failed"})
            else:
                failures = 0
                reason = await self._serve(connection, welcome)
                logger.warning("The link ended: %s", reason, extra={"event": "link_ended", "detail": reason})
            delay_s = reconnect_delay_s(failures, random.random())  # noqa: S311 - spreads load, keeps no secret
            failures += 1
            await asyncio.sleep(delay_s)

    def close(self, reason: str) -> None:
        """End the link, if there is one; the next follows."""
        if self.link:
            self.link.close(reason)

    def adopt(self, identity: Identity) -> None:
        """Use another identity for whatever is opened from now on; the link that stands goes on."""
        self._joiner.adopt(identity)
        if self._connection is not None:
            self._transfers.use(self._joiner.endpoint(self._connection))

    async def _serve(self, connection: Connection, welcome: Welcome) -> str:
        """Work over one link; return why it ended."""
        link = Link(connection, self._listener.on_messages, lambda: self._state.leisure_s)
        self.link, self._connection = link, connection
        self._live.attach(link.send_bulk)
        self._transfers.use(self._joiner.endpoint(connection))
        logger.info(
            "Connected as %s (%s) over %s",
            self._state.offer.name,
            welcome.admission,
            connection.transport,
            extra={"event": "link_connected", "transport": connection.transport},
        )
        if welcome.admission is Admission.PENDING:
            logger.info("This worker waits for an admin's approval")
        self._listener.perform(reactor.on_link_up(self._state, welcome, self._loop.time()))
        self._identity.attach(self._joiner.identity, link.send)
        heartbeats = asyncio.create_task(self._send_heartbeats(link, welcome.heartbeat_interval_s))
        try:
            return await link.run()
        finally:
            self.link = self._connection = None
            self._identity.detach()
            self._live.detach()
            self._transfers.use(None)
            heartbeats.cancel()
            await asyncio.gather(heartbeats, return_exceptions=True)
            self._listener.perform(reactor.on_link_lost(self._state))

    async def _send_heartbeats(self, link: Link, interval_s: float) -> None:
        try:
            while True:
                self._listener.perform(reactor.on_heartbeat_due(self._state, self._vitals.read(), self._loop.time()))
                await asyncio.sleep(max(interval_s, MIN_HEARTBEAT_INTERVAL_S))
        except machine.UNREADABLE as error:
            # Without heartbeats the leases run out while the link looks well: better a new link.
            link.close(f"the vitals cannot be read: {error}")
