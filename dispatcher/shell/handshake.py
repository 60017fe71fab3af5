"""Lets a peer in or turns it away: serves the CA, enrols with join tokens, authenticates workers.

    worker                         dispatcher
    FetchCa                  ->    CaBundle, close             (before it has any identity)
    Enrol                    ->    Enrolled or Refused, close
    Hello                    ->    Challenge
    Auth                     ->    Welcome or Refused
    Register                 ->    (the session stands; on a link for transfers Welcome is enough)

The authority is the signature in Auth, on every transport; the TLS client certificate must be the same one.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dispatcher.ports import EnrolmentAnswer, MachineRefused, Store, WhitelistEntry, WorkerRefused
from dispatcher.shell.credentials import Credentials
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.refusals import Refusals
from dispatcher.shell.writer import StoreWriter
from octaskly_wire import auth, identity
from octaskly_wire.errors import BadProof, UnexpectedMessage, WireError
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S, PROTOCOL_VERSION
from octaskly_wire.messages import (
    Auth,
    CaBundle,
    Challenge,
    Enrol,
    Enrolled,
    FetchCa,
    Hello,
    Refused,
    Register,
    Welcome,
)
from octaskly_wire.vocabulary import Admission, LinkPurpose, RefusalCode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the dispatcher proves itself with."""

    cluster_id: str
    credentials: Credentials
    heartbeat_interval_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Proven:
    """A worker that proved who it is, on a link for transfers."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Admitted:
    """A worker that proved who it is and registered, on its control link."""

    hello: Hello
    registration: Register
    whitelisted: WhitelistEntry
    certificate: bytes


class Turned(Exception):
    """The peer was served or refused; there is no session."""


class Gatekeeper:
    """Runs the handshake on a fresh link."""

    def __init__(self, facts: ClusterFacts, store: Store, writer: StoreWriter) -> None:
        self._facts = facts
        self._store = store
        self._writer = writer
        self.refusals = Refusals(writer)

    async def admit(self, link: WorkerLink, tls_certificate: bytes | None) -> Admitted | Proven:
        """Return the admitted worker, or raise Turned or WireError when there is none."""
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            first = await link.receive()
            if isinstance(first, FetchCa):
                link.send(
                    CaBundle(
                        cluster_id=self._facts.cluster_id, certificate=self._facts.credentials.known_ca_certificate
                    )
                )
                raise Turned("asked for the CA certificate")
            if not self._writer.is_healthy:
                # What is asked of the store now would pile up behind the commit that fails.
                detail = "the dispatcher's database cannot be written"
                link.send(Refused(code=RefusalCode.UNAVAILABLE, detail=detail, is_final=False))
                raise Turned(detail)
            if isinstance(first, Enrol):
                await self._enrol(link, first)
                raise Turned("enrolled")
            if not isinstance(first, Hello):
                raise UnexpectedMessage(type(first).__name__)
            return await self._authenticate(link, first, tls_certificate)

    async def _enrol(self, link: WorkerLink, request: Enrol) -> None:
        if request.protocol_version != PROTOCOL_VERSION:
            await self._refuse(link, "", RefusalCode.PROTOCOL_VERSION, _version_text(request.protocol_version))
        answer: EnrolmentAnswer = await self._writer.call(
            lambda: self._store.enrol(
                token_id=request.token_id,
                secret=request.secret,
                certificate_request=request.certificate_request,
                name=request.name,
                address=link.address,
            )
        )
        if answer.refusal is not None:
            logger.warning(
                "Refused to enrol %s from %s: %s",
                request.name,
                link.address,
                answer.detail,
                extra={
                    "event": "enrolment_refused",
                    "worker_name": request.name,
                    "address": link.address,
                    "detail": answer.detail,
                },
            )
            refusal = MachineRefused(request.name, request.token_id[:8], link.address, answer.detail)
            await self.refusals.note(refusal)
            link.send(Refused(code=answer.refusal, detail=answer.detail, is_final=True))
            raise Turned(answer.detail)
        logger.info(
            "Enrolled worker %s (%s) from %s",
            request.name,
            answer.worker_id,
            link.address,
            extra={
                "event": "worker_enrolled",
                "worker_id": answer.worker_id,
                "worker_name": request.name,
                "address": link.address,
            },
        )
        link.send(
            Enrolled(
                worker_id=answer.worker_id,
                cluster_id=self._facts.cluster_id,
                certificate=answer.certificate,
                admission=answer.admission,
            )
        )

    async def _authenticate(self, link: WorkerLink, hello: Hello, tls_certificate: bytes | None) -> Admitted | Proven:
        if hello.protocol_version != PROTOCOL_VERSION:
            await self._refuse(
                link, hello.worker_id, RefusalCode.PROTOCOL_VERSION, _version_text(hello.protocol_version)
            )
        nonce = secrets.token_bytes(32)
        link.send(Challenge(cluster_id=self._facts.cluster_id, nonce=nonce))
        answer = await link.receive()
        if not isinstance(answer, Auth):
            raise UnexpectedMessage(type(answer).__name__)
        entries = await self._writer.call(lambda: self._store.whitelist_entries([hello.worker_id]))
        entry = entries[0] if entries else None
        try:
            self._check_proof(link, hello, answer, nonce, tls_certificate, entry)
        except BadProof as error:
            await self._refuse(link, hello.worker_id, RefusalCode.BAD_PROOF, str(error))
        if entry is None:
            await self._refuse(link, hello.worker_id, RefusalCode.NOT_ENROLLED, "this dispatcher does not know the key")
        elif entry.admission is Admission.REVOKED:
            await self._refuse(link, hello.worker_id, RefusalCode.REVOKED, entry.detail or "the worker was revoked")
        else:
            link.session.open()
            link.send(
                Welcome(
                    admission=entry.admission,
                    heartbeat_interval_s=self._facts.heartbeat_interval_s,
                    lease_s=self._facts.lease_s,
                )
            )
            if hello.purpose is LinkPurpose.TRANSFER:
                return Proven(hello)
            registration = await link.receive()
            if not isinstance(registration, Register):
                raise UnexpectedMessage(type(registration).__name__)
            return Admitted(hello, registration, entry, answer.certificate)
        raise Turned("refused")

    def _check_proof(
        self,
        link: WorkerLink,
        hello: Hello,
        answer: Auth,
        nonce: bytes,
        tls_certificate: bytes | None,
        entry: WhitelistEntry | None,
    ) -> None:
        if link.transport == "tcp" and not (
            tls_certificate and hmac.compare_digest(tls_certificate, answer.certificate)
        ):
            raise BadProof("the TLS certificate is not the one in AUTH")
        public_key = identity.check_worker_certificate(
            answer.certificate,
            self._facts.credentials.ca_certificates,
            self._facts.cluster_id,
            hello.worker_id,
            datetime.now(UTC),
        )
        self._check_signature(public_key, link, hello, answer, nonce)
        if entry and entry.public_key_sha256 != identity.public_key_sha256(public_key):
            raise BadProof("the key is not the one on the whitelist")

    def _check_signature(
        self, public_key: Ed25519PublicKey, link: WorkerLink, hello: Hello, answer: Auth, nonce: bytes
    ) -> None:
        # A connection may have begun under a leaf before the present one: another of ours will do, a stranger's never.
        leaves = self._facts.credentials.shown_leaves
        for leaf in leaves:
            signed = auth.transcript(
                self._facts.cluster_id, link.transport, leaf, nonce, hello.nonce, hello.worker_id, hello.boot_id
            )
            try:
                auth.verify(public_key, signed, answer.signature)
            except BadProof:
                if leaf is leaves[-1]:
                    raise
            else:
                return

    async def _refuse(self, link: WorkerLink, worker_id: str, code: RefusalCode, detail: str) -> None:
        logger.warning(
            "Refused %s from %s: %s (%s)",
            worker_id or "a peer",
            link.address,
            detail,
            code.value,
            extra={
                "event": "worker_refused",
                "claimed_worker_id": worker_id,
                "address": link.address,
                "code": code.value,
                "detail": detail,
            },
        )
        # An unproven peer chose this id: it goes into the audit as a claim, cut to the column's size.
        await self.refusals.note(WorkerRefused(worker_id[:36], link.address, code, detail))
        link.send(Refused(code=code, detail=detail, is_final=True))
        raise Turned(detail)


def _version_text(version: int) -> str:
    return f"the worker speaks protocol {version}, this dispatcher {PROTOCOL_VERSION}: install matching versions"


__all__ = ["Admitted", "ClusterFacts", "Gatekeeper", "Proven", "Turned", "WireError"]
