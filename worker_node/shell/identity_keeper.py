"""Keeps the worker's identity good over the live link: renews its certificate in time, and follows changes of trust.

What comes is on disk before it is used or confirmed, so a crash leaves the old identity or the new one, whole.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from octaskly_wire.errors import BadProof
from octaskly_wire.identity import certificate_sha256, issuer_among, make_certificate_request
from octaskly_wire.messages import (
    CertificateRenewed,
    FromWorker,
    RenewalRefused,
    RenewCertificate,
    TrustChanged,
    TrustConfirmed,
)
from octaskly_wire.renewal import renewal_due_at, retry_pause
from worker_node.shell.dialing import check_identity
from worker_node.shell.keyfile import Identity, StateFolder, StateFolderError

logger = logging.getLogger(__name__)

LONGEST_PAUSE: Final = timedelta(minutes=10)
"""Between two tries of a renewal."""

LOOK_S: Final = 60.0
"""How often the wall clock is looked at: it may be set, and a machine may have slept."""

IdentityNews = CertificateRenewed | RenewalRefused | TrustChanged


class IdentityKeeper:
    """Owns the identity once there is one; `adopted` is told of each that takes its place."""

    def __init__(self, folder: StateFolder, adopted: Callable[[Identity], None]) -> None:
        """Take the folder that identities are stored in."""
        self._folder: Final = folder
        self._adopted = adopted
        self._identity: Identity | None = None
        self._send: Callable[[FromWorker], None] | None = None
        self._inbox: asyncio.Queue[IdentityNews | None] = asyncio.Queue()
        self._due_at = datetime.max.replace(tzinfo=UTC)

    def attach(self, identity: Identity, send: Callable[[FromWorker], None]) -> None:
        """Have a link to speak over, opened with this identity; one with less than half of its life left is renewed."""
        self._identity, self._send = identity, send
        now = datetime.now(UTC)
        is_late = now >= renewal_due_at(identity.certificate, 0.0)
        self._due_at = now if is_late else _drawn(identity)
        self._hurry_if_outdated(identity)
        self._inbox.put_nowait(None)

    def detach(self) -> None:
        """Have no link any more."""
        self._send = None

    def on_message(self, message: IdentityNews) -> None:
        """Take what the dispatcher says; it is dealt with in order by `run`."""
        self._inbox.put_nowait(message)

    async def run(self) -> None:
        """Renew and follow until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._rest_s()):
                    message = await self._inbox.get()
            except TimeoutError:
                self._ask_if_due()
                continue
            if message is not None and self._identity is not None:
                await self._take(message, self._identity)
            self._ask_if_due()

    def _rest_s(self) -> float | None:
        if self._send is None:
            return None
        return max(0.0, min((self._due_at - datetime.now(UTC)).total_seconds(), LOOK_S))

    def _ask_if_due(self) -> None:
        identity = self._identity
        if self._send is None or identity is None or datetime.now(UTC) < self._due_at:
            return
        self._due_at = datetime.now(UTC) + retry_pause(identity.certificate, LONGEST_PAUSE)
        self._send(RenewCertificate(make_certificate_request(identity.key)))

    async def _take(self, message: IdentityNews, identity: Identity) -> None:
        try:
            match message:
                case TrustChanged():
                    changed = identity.trusting(tuple(message.ca_certificates))
                case CertificateRenewed():
                    changed = replace(identity, certificate=message.certificate)
                    check_identity(changed)
                case RenewalRefused():
                    logger.warning("No new certificate: %s", message.detail, extra={"event": "renewal_refused"})
                    return
            if changed != identity:
                await asyncio.to_thread(self._folder.save_identity, changed)
        except BadProof as error:
            logger.warning("What the dispatcher sent is of no use: %s", error, extra={"event": "identity_not_changed"})
            return
        except StateFolderError as error:
            # The next link, or the next try, brings it again.
            logger.error("The identity stays as it was: %s", error, extra={"event": "identity_not_changed"})  # noqa: TRY400
            return
        self._adopt(changed, identity)

    def _adopt(self, changed: Identity, before: Identity) -> None:
        self._identity = changed
        if changed.certificate != before.certificate:
            self._due_at = _drawn(changed)
            logger.info("The certificate was renewed", extra={"event": "certificate_renewed"})
        if changed.ca_certificates != before.ca_certificates:
            count = len(changed.ca_certificates)
            logger.info("Trusts %d certificate authorities from now on", count, extra={"event": "trust_changed"})
        if changed != before:
            self._adopted(changed)
        if self._send is not None:
            self._send(TrustConfirmed(list(changed.ca_digests), certificate_sha256(changed.certificate)))
        self._hurry_if_outdated(changed)

    def _hurry_if_outdated(self, identity: Identity) -> None:
        """Renew at once what is of another CA than the one that signs now: the other will be trusted by nobody soon."""
        try:
            issuer_among(identity.certificate, identity.ca_certificates[:1])
        except BadProof:
            self._due_at = datetime.now(UTC)


def _drawn(identity: Identity) -> datetime:
    return renewal_due_at(identity.certificate, random.random())  # noqa: S311 - spreads load, keeps no secret
