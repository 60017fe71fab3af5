"""Join tokens and their use: how a machine gets onto the whitelist."""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from audit_app.trail import AuditEvent, actor_name, record
from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from octaskly_wire.join_token import JoinToken as TokenText
from octaskly_wire.join_token import secret_sha256
from octaskly_wire.vocabulary import Admission
from workers_app.authorities import worker_lifetime
from workers_app.cluster import ensure_cluster
from workers_app.models import JoinToken, Worker

MAX_USES = 10_000
MAX_TTL_S = 366 * 86_400


class EnrolmentRefused(Exception):
    """The join token gives no right, or the request proves nothing."""


@dataclass(frozen=True, slots=True)
class EnrolledWorker:
    """A new entry on the whitelist."""

    worker_id: str
    certificate: bytes
    admission: Admission


def create_join_token(*, uses: int, ttl_s: int, auto_approve: bool, actor: Any) -> str:
    """Return the text of a new join token. It cannot be read again: only a digest is stored.

    Raises ValueError naming `uses` or `ttl_s` when out of range. `actor` is a user, or None for the operator
    at the machine itself.
    """
    if not 1 <= uses <= MAX_USES:
        raise ValueError(f"uses: must be from 1 to {MAX_USES}")
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise ValueError(f"ttl_s: must be from 1 to {MAX_TTL_S} seconds")
    now = datetime.now(UTC)
    cluster = ensure_cluster(now)
    token = TokenText.new(identity.ca_digest(cluster.ca_certificate), secrets.token_bytes)
    with transaction.atomic():
        JoinToken.objects.create(
            token_id=token.token_id,
            secret_sha256=secret_sha256(token.secret),
            ca_digest=token.ca_digest.hex(),
            uses_allowed=uses,
            uses_left=uses,
            auto_approve=auto_approve,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl_s),
            created_by=actor,
        )
        details = {"token_id": token.token_id, "uses": uses, "ttl_s": ttl_s, "auto_approve": auto_approve}
        record(AuditEvent("join_token_created", actor_name(actor), details=details), at=now)
    return token.text


def enrol(
    *, token_id: str, secret: str, certificate_request: bytes, name: str, address: str, now: datetime
) -> EnrolledWorker:
    """Use a join token once and put the machine's key on the whitelist; raises EnrolmentRefused.

    A key that is known already stays the same worker: its certificate expired, its CA is gone, or an answer got lost.
    The use is one compare-and-set: of many at the same moment, only as many succeed as the token allows. Who was refused
    is for the caller to record: strangers may ask as often as they like.
    """
    cluster = ensure_cluster(now)
    try:
        public_key = identity.public_key_of_request(certificate_request)
    except BadProof as error:
        raise EnrolmentRefused(str(error)) from error
    fingerprint = identity.public_key_sha256(public_key)
    with transaction.atomic():
        token = JoinToken.objects.filter(token_id=token_id).first()
        if token is None or not hmac.compare_digest(token.secret_sha256, secret_sha256(secret)):
            raise EnrolmentRefused("this dispatcher knows no such join token")
        if token.expires_at <= now:
            raise EnrolmentRefused("the join token has expired; make a new one with: manage.py jointoken")
        known = Worker.objects.filter(public_key_sha256=fingerprint).first()
        if known is not None and known.admission == Admission.REVOKED.value:
            raise EnrolmentRefused("this key was revoked")
        used = JoinToken.objects.filter(token_id=token_id, uses_left__gt=0).update(uses_left=F("uses_left") - 1)
        if not used:
            raise EnrolmentRefused("the join token was used up; make a new one with: manage.py jointoken")
        admission = _admission(known, auto_approve=token.auto_approve)
        worker_id = known.id if known else str(uuid.uuid4())
        # Of the CA that the token pins: the machine knows no other yet.
        certificate = identity.issue_worker_certificate(
            cluster.ca_certificate, cluster.ca_key, cluster.cluster_id, worker_id, public_key, now, worker_lifetime()
        )
        ca_digest = identity.ca_digest(cluster.ca_certificate).hex()
        approved_now = admission is Admission.APPROVED and (known is None or known.approved_at is None)
        facts = {
            "admission": admission.value,
            "certificate_expires_at": identity.certificate_expires_at(certificate),
            "certificate_ca_digest": ca_digest,
            "trusted_ca_digests": [ca_digest],
            "join_token_id": token_id,
            "address": address,
            **({"approved_at": now} if approved_now else {}),
        }
        new = {"id": worker_id, "name": name or worker_id[:8], "created_at": now}
        Worker.objects.update_or_create(facts, facts | new, public_key_sha256=fingerprint)
        details = {"name": name, "address": address, "token_id": token_id, "admission": admission.value}
        record(AuditEvent("worker_enrolled", "engine", worker_id, details=details), at=now)
    return EnrolledWorker(worker_id, certificate, admission)


def _admission(known: Worker | None, *, auto_approve: bool) -> Admission:
    """Return what a token makes of a machine; one that is known gets by it no further than its operator let it."""
    if known is not None and known.admission != Admission.PENDING.value:
        return Admission(known.admission)
    return Admission.APPROVED if auto_approve else Admission.PENDING
