"""Renews workers' certificates, tells workers whom to trust, and renews the dispatcher's own certificate in time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from dispatcher.ports import Store, WorkerTrusts
from dispatcher.shell.credentials import Credentials
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.errors import BadProof
from octaskly_wire.identity import ca_digest, certificate_sha256, issuer_among
from octaskly_wire.messages import CertificateRenewed, RenewalRefused, RenewCertificate, TrustChanged, TrustConfirmed
from octaskly_wire.renewal import renewal_due_at

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the clock is looked at, and while one CA takes over from another, whether the old one can go."""

MAX_CERTIFICATES: Final = 8
"""Of one worker, whose issuers are remembered, over its links, for when it says which one it has."""


class TrustDesk:
    """Serves control links. Everything is called on the loop."""

    def __init__(self, credentials: Credentials, store: Store, writer: StoreWriter) -> None:
        """Begin without links."""
        self._credentials = credentials
        self._store = store
        self._writer = writer
        self._links: set[WorkerLink] = set()
        self._renewing: dict[WorkerLink, asyncio.Task[None]] = {}
        self._issuers: dict[str, dict[str, str]] = {}
        """By worker: which CA signed each certificate, by its SHA-256, that the worker may have."""
        self._leaf_due_at = _leaf_due_at(credentials.leaf)
        self._changing = asyncio.Lock()

    # --- links -------------------------------------------------------------------------------------

    def enter(self, link: WorkerLink, certificate: bytes, issuer_digest: str, confirmed: Sequence[str]) -> None:
        """Begin to serve a link; its worker is told whom to trust unless it has confirmed just that."""
        self._links.add(link)
        self._remember(link.worker_id, certificate, issuer_digest)
        if tuple(confirmed) != self._credentials.ca_digests:
            self._tell(link)

    def leave(self, link: WorkerLink) -> None:
        """Serve the link no more."""
        self._links.discard(link)
        if (renewing := self._renewing.pop(link, None)) is not None:
            renewing.cancel()

    def issuer_digest(self, certificate: bytes) -> str:
        """Return the digest (hex) of the CA that signed a worker's certificate; empty when it is trusted no more."""
        try:
            return ca_digest(issuer_among(certificate, self._credentials.ca_certificates)).hex()
        except BadProof:
            return ""

    def on_message(self, link: WorkerLink, message: RenewCertificate | TrustConfirmed) -> None:
        """Take a worker's request or confirmation."""
        if isinstance(message, TrustConfirmed):
            issuer = self._issuers.get(link.worker_id, {}).get(message.certificate_sha256, "")
            self._writer.submit([WorkerTrusts(link.worker_id, tuple(message.ca_digests), issuer)])
        elif link in self._renewing:
            link.send(RenewalRefused("another request of this link is not answered yet"))
        else:
            self._renewing[link] = asyncio.create_task(self._renew(link, message))

    async def _renew(self, link: WorkerLink, request: RenewCertificate) -> None:
        worker_id = link.worker_id
        answer = await self._writer.call(lambda: self._store.renew(worker_id, request.certificate_request))
        self._renewing.pop(link, None)
        if not answer.certificate:
            extra = {"event": "renewal_refused", "worker_id": worker_id, "detail": answer.detail}
            logger.warning("No new certificate for worker %s: %s", worker_id, answer.detail, extra=extra)
            link.send(RenewalRefused(answer.detail))
            return
        self._remember(worker_id, answer.certificate, answer.ca_digest)
        link.send(CertificateRenewed(answer.certificate))

    def _remember(self, worker_id: str, certificate: bytes, issuer_digest: str) -> None:
        issuers = self._issuers.setdefault(worker_id, {})
        issuers[certificate_sha256(certificate)] = issuer_digest
        if len(issuers) > MAX_CERTIFICATES:
            del issuers[next(iter(issuers))]

    def _tell(self, link: WorkerLink) -> None:
        link.send(TrustChanged(list(self._credentials.ca_certificates)))

    # --- trust and the own certificate -------------------------------------------------------------

    async def run(self) -> None:
        """Renew the leaf when it is due, and let the old CA go when nobody needs it, until cancelled."""
        while True:
            if len(self._credentials.ca_certificates) > 1:
                await self.take(await self._writer.call(self._store.settle_trust))
            if datetime.now(UTC) >= self._leaf_due_at:
                await self._replace(self._credentials.ca_certificates, is_leaf_new=True)
            await asyncio.sleep(LOOK_S)

    async def take(self, ca_certificates: Sequence[bytes]) -> None:
        """Believe these CAs from now on, newest first, and tell every connected worker; nothing when it is so already."""
        async with self._changing:
            if tuple(ca_certificates) == self._credentials.ca_certificates or not ca_certificates:
                return
            is_leaf_new = ca_certificates[-1] != self._credentials.known_ca_certificate
            await self._replace(ca_certificates, is_leaf_new=is_leaf_new)
        extra = {"event": "trust_changed", "authorities": len(ca_certificates)}
        logger.info("Trusts %d certificate authorities from now on", len(ca_certificates), extra=extra)
        for link in self._links:
            self._tell(link)

    async def _replace(self, ca_certificates: Sequence[bytes], *, is_leaf_new: bool) -> None:
        leaf = await self._writer.call(self._store.issue_leaf) if is_leaf_new else self._credentials.leaf
        self._credentials.replace(leaf, ca_certificates)
        self._leaf_due_at = _leaf_due_at(leaf)
        if is_leaf_new:
            logger.info("The dispatcher has a new certificate", extra={"event": "leaf_renewed"})


def _leaf_due_at(leaf: bytes) -> datetime:
    return renewal_due_at(leaf, random.random())  # noqa: S311 - spreads load, keeps no secret
