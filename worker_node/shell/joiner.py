"""Get from nothing to a welcome: enrol if needed, find the dispatcher, try every address at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from octaskly_wire.announcement import Announcement
from octaskly_wire.errors import BadProof, WireError
from octaskly_wire.join_token import JoinToken
from octaskly_wire.messages import Welcome
from octaskly_wire.vocabulary import Admission
from worker_node.config import Address, WorkerConfig
from worker_node.shell.dialer import Dialer
from worker_node.shell.dialing import Connection, check_identity, enrol, open_session
from worker_node.shell.keyfile import Identity, StateFolder
from worker_node.shell.proving import DispatcherRefused
from worker_node.shell.transfer_link import Endpoint, Streams

logger = logging.getLogger(__name__)

SEARCH_TIMEOUT_S: Final = 30.0
"""After which a search starts anew, in case the network changed under it."""

SHORT_DIGEST_CHARACTERS: Final = 8
"""Of the CA key's digest, in announcements."""

AT_ONCE: Final = 256
"""Addresses that a search gives, all tried at the same time: impostors that say nothing cost a worker sockets, not time."""

Result = TypeVar("Result")


class CannotJoin(Exception):
    """Trying again cannot help; the text says what would."""


class Joiner:
    """Makes connections for one worker; keeps its identity between them."""

    def __init__(self, config: WorkerConfig, folder: StateFolder, boot_id: str) -> None:
        """Load the identity and see that it and the token fit each other; raise CannotJoin if not."""
        self._config = config
        self._folder = folder
        self._boot_id = boot_id
        self._token = config.join_token
        self._identity = self._usable_identity()
        try:
            self._dialer = Dialer(config.transport)
        except ImportError as error:
            raise CannotJoin(f"--transport quic: aioquic cannot be loaded here ({error})") from error

    async def join(self) -> tuple[Connection, Welcome]:
        """Return an open session; raise OSError, WireError or TimeoutError when another try may help."""
        identity = self._identity or await self._enrol()
        addresses = await self._addresses(lambda announced: announced.cluster_id == identity.cluster_id)
        return await first_success(
            addresses,
            lambda address: self._dialer.dial(
                lambda connect: open_session(connect, address, identity, self._boot_id, self._config.codec)
            ),
        )

    @property
    def identity(self) -> Identity:
        """Return who this worker is; raise CannotJoin before it has enrolled."""
        if self._identity is None:
            raise CannotJoin("this worker has no identity yet")
        return self._identity

    def adopt(self, identity: Identity) -> None:
        """Prove ourselves with this identity from the next connection on; it is stored already."""
        self._identity = identity

    def endpoint(self, connection: Connection) -> Endpoint:
        """Return where transfer links beside an open session lead."""
        streams = Streams(connection.carrier, asyncio.get_running_loop()) if connection.carrier else None
        return Endpoint(connection.address, self.identity, self._boot_id, self._config.codec, streams)

    def _usable_identity(self) -> Identity | None:
        identity, token = self._folder.load_identity(), self._token
        if identity is None:
            if token is None:
                raise CannotJoin("this worker is in no cluster yet: give --join-token (made by: manage.py jointoken)")
            return None
        if token and not identity.is_of(token.ca_digest):
            raise CannotJoin(
                f"{self._folder.path} belongs to cluster {identity.cluster_id}, the join token to another; use another "
                "--state-dir for that one (or, if this cluster's CA was changed without this worker, remove identity.json "
                "there)"
            )
        try:
            check_identity(identity)
        except BadProof as error:
            if token is None:
                raise CannotJoin(f"the worker's certificate is of no use ({error}): enrol with a new token") from error
            return None
        return identity

    async def _enrol(self) -> Identity:
        token = self._token
        if token is None:
            raise CannotJoin("a join token is needed")
        # Made and stored first: an enrolment whose answer gets lost is repeated with the same key.
        key = self._folder.load_or_make_key()
        addresses = await self._addresses(lambda announced: _may_be(announced, token))
        try:
            identity, admission = await first_success(
                addresses,
                lambda address: self._dialer.dial(
                    lambda connect: enrol(connect, address, token, key, self._config.name, self._config.codec)
                ),
            )
        except BadProof as error:
            # A wrong address stays wrong. With mDNS the true dispatcher may yet appear.
            if self._config.dispatcher_address:
                raise CannotJoin(str(error)) from error
            raise
        if not identity.is_of(token.ca_digest):
            raise CannotJoin("enrolled at another cluster than the token's")
        self._folder.save_identity(identity)
        self._identity = identity
        logger.info(
            "Enrolled in cluster %s as worker %s",
            identity.cluster_id,
            identity.worker_id,
            extra={"event": "worker_enrolled", "worker_id": identity.worker_id, "cluster_id": identity.cluster_id},
        )
        if admission is Admission.PENDING:
            logger.info("An admin must approve this worker before it gets tasks")
        return identity

    async def _addresses(self, matches: Callable[[Announcement], bool]) -> Sequence[Address]:
        if self._config.dispatcher_address:
            return [self._config.dispatcher_address]
        # Here, since zeroconf is a tenth of the worker's memory, and of no use to one that was given an address.
        from worker_node.shell.finder import find_dispatchers

        logger.debug("Looking for the dispatcher by mDNS")
        try:
            async with asyncio.timeout(SEARCH_TIMEOUT_S):
                return await find_dispatchers(matches, AT_ONCE)
        except TimeoutError:
            raise TimeoutError("no dispatcher of this cluster is announced by mDNS") from None


def _may_be(announced: Announcement, token: JoinToken) -> bool:
    return announced.ca_digest_short == token.ca_digest.hex()[:SHORT_DIGEST_CHARACTERS]


async def first_success(addresses: Sequence[Address], attempt: Callable[[Address], Awaitable[Result]]) -> Result:
    """Try addresses at the same time and return the first success; else raise what tells most.

    A refusal comes from a peer that proved to be the dispatcher, so it counts more than any failure.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    errors: list[Exception] = []

    async def try_one(address: Address) -> Result:
        async with gate:
            return await attempt(address)

    tasks = {asyncio.ensure_future(try_one(address)) for address in addresses}
    try:
        for next_done in asyncio.as_completed(tasks):
            try:
                return await next_done
            except (OSError, WireError, TimeoutError, DispatcherRefused) as error:
                errors.append(error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors.sort(key=lambda error: (not isinstance(error, DispatcherRefused), not isinstance(error, BadProof)))
    raise errors[0]
