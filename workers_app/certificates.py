"""Certificates that are made anew while their owners work: workers' over their links, the dispatcher's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import transaction

from audit_app.trail import AuditEvent, record
from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from octaskly_wire.vocabulary import Admission
from workers_app.authorities import authorities, dispatcher_lifetime, worker_lifetime
from workers_app.cluster import ensure_cluster
from workers_app.models import CertificateAuthority, Worker

YOUNG_SHARE = 0.1
"""Of its life. A certificate that is younger is not renewed: nobody needs that, and each costs a row of the audit."""


class RenewalRefused(Exception):
    """The worker gets no new certificate; the text says why."""


def renew(worker_id: str, certificate_request: bytes, now: datetime) -> bytes:
    """Return a new certificate (DER) of the newest CA for the key that is on the whitelist; raises RenewalRefused."""
    try:
        public_key = identity.public_key_of_request(certificate_request)
    except BadProof as error:
        raise RenewalRefused(str(error)) from error
    cluster = ensure_cluster(now)
    with transaction.atomic():
        worker = Worker.objects.filter(id=worker_id).first()
        if worker is None:
            raise RenewalRefused("this dispatcher does not know the worker")
        if worker.admission == Admission.REVOKED.value:
            raise RenewalRefused("the worker was revoked")
        is_known_key = worker.public_key_sha256 == identity.public_key_sha256(public_key)
        if is_known_key:
            certificate = _issue(worker, cluster.cluster_id, public_key, now)
        else:
            details = {"reason": "the request was for another key"}
            record(AuditEvent("certificate_refused", "engine", worker_id, details=details), at=now)
    if not is_known_key:  # Raised out here, so that the row of it stays.
        raise RenewalRefused("the request is for another key than the one on the whitelist")
    return certificate


def _issue(worker: Worker, cluster_id: str, public_key: Ed25519PublicKey, now: datetime) -> bytes:
    newest, lifetime = authorities()[-1], worker_lifetime()
    expires_at = worker.certificate_expires_at
    is_young = expires_at is not None and expires_at - now > (1 - YOUNG_SHARE) * lifetime
    if is_young and worker.certificate_ca_digest == newest.digest:
        raise RenewalRefused("the present certificate is new")
    certificate = identity.issue_worker_certificate(
        newest.certificate, newest.key, cluster_id, worker.id, public_key, now, lifetime
    )
    worker.certificate_expires_at = identity.certificate_expires_at(certificate)
    worker.save(update_fields=["certificate_expires_at"])
    details = {"expires_at": worker.certificate_expires_at.isoformat(), "ca": newest.digest[:16]}
    record(AuditEvent("certificate_renewed", "engine", worker.id, details=details), at=now)
    return certificate


def note_certificate(worker_id: str, ca_digest: str) -> None:
    """Keep of which CA the certificate is that the worker has for certain; nothing where that cannot be told."""
    if not ca_digest:
        return
    Worker.objects.filter(id=worker_id).exclude(certificate_ca_digest=ca_digest).update(certificate_ca_digest=ca_digest)


def note_trust(worker_id: str, ca_digests: Sequence[str]) -> AuditEvent | None:
    """Keep which CAs a worker trusts, in the caller's transaction; return what the audit should say of a change."""
    known = set(CertificateAuthority.objects.values_list("digest", flat=True))
    worker = Worker.objects.filter(id=worker_id).first()
    trusted = list(ca_digests)
    if worker is None or worker.trusted_ca_digests == trusted or not known.issuperset(trusted):
        return None
    worker.trusted_ca_digests = trusted
    worker.save(update_fields=["trusted_ca_digests"])
    details = {"count": len(trusted), "cas": [digest[:16] for digest in trusted]}
    return AuditEvent("trust_confirmed", "engine", worker_id, details=details)


def issue_leaf(now: datetime) -> bytes:
    """Return a certificate (DER) for the dispatcher itself, of the CA that every worker knows."""
    cluster = ensure_cluster(now)
    leaf = identity.issue_dispatcher_certificate(
        cluster.ca_certificate,
        cluster.ca_key,
        cluster.cluster_id,
        cluster.server_key.public_key(),
        now,
        dispatcher_lifetime(),
    )
    with transaction.atomic():
        details = {
            "expires_at": identity.certificate_expires_at(leaf).isoformat(),
            "ca": identity.ca_digest(cluster.ca_certificate).hex()[:16],
        }
        record(AuditEvent("dispatcher_certificate_issued", "engine", details=details), at=now)
    return leaf
