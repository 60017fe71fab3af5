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

from audit_app.trail import AuditEvent, record
from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from octaskly_wire.join_token import JoinToken as TokenText
from octaskly_wire.join_token import secret_sha256
from octaskly_wire.vocabulary import Admission
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
            uses_allowed=uses,
            uses_left=uses,
            auto_approve=auto_approve,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl_s),
            created_by=actor,
        )
        details = {"token_id": token.token_id, "uses": uses, "ttl_s": ttl_s, "auto_approve": auto_approve}
        record(AuditEvent("join_token_created", _name_of(actor), details=details), at=now)
    return token.text


def enrol(
    *, token_id: str, secret: str, certificate_request: bytes, name: str, address: str, now: datetime
) -> EnrolledWorker:
    """Use a join token once and put the machine's key on the whitelist; raises EnrolmentRefused.

    The use is one compare-and-set: of many at the same moment, only as many succeed as the token allows.
    """
    try:
        return _enrol(token_id, secret, certificate_request, name, address, now)
    except EnrolmentRefused as error:
        with transaction.atomic():
            details = {"token_id": token_id[:8], "name": name, "address": address, "reason": str(error)}
            record(AuditEvent("enrol_refused", "engine", details=details), at=now)
        raise


def _enrol(
    token_id: str, secret: str, certificate_request: bytes, name: str, address: str, now: datetime
) -> EnrolledWorker:
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
        if Worker.objects.filter(public_key_sha256=fingerprint).exists():
            raise EnrolmentRefused("this key is enrolled already")
        used = JoinToken.objects.filter(token_id=token_id, uses_left__gt=0).update(uses_left=F("uses_left") - 1)
        if not used:
            raise EnrolmentRefused("the join token was used up; make a new one with: manage.py jointoken")
        admission = Admission.APPROVED if token.auto_approve else Admission.PENDING
        worker_id = str(uuid.uuid4())
        certificate = identity.issue_worker_certificate(
            cluster.ca_certificate, cluster.ca_key, cluster.cluster_id, worker_id, public_key, now
        )
        Worker.objects.create(
            id=worker_id,
            name=name or worker_id[:8],
            admission=admission.value,
            public_key_sha256=fingerprint,
            created_at=now,
            approved_at=now if token.auto_approve else None,
            certificate_expires_at=identity.certificate_expires_at(certificate),
            join_token_id=token_id,
            address=address,
        )
        details = {"name": name, "address": address, "token_id": token_id, "admission": admission.value}
        record(AuditEvent("worker_enrolled", "engine", worker_id, details=details), at=now)
    return EnrolledWorker(worker_id, certificate, admission)


def _name_of(actor: Any) -> str:
    return actor.get_username() if actor is not None else "operator"
