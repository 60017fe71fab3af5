"""The cluster's certificate authorities: one, and a second while one takes over from the other.

The oldest is the one that every worker knows: of it are the dispatcher's own certificate and those of machines that
enrol. The newest signs what is renewed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from accounts_app.plain_sql import read
from octaskly_wire import identity
from workers_app.models import CertificateAuthority


@dataclass(frozen=True, slots=True)
class Authority:
    """One CA, able to sign."""

    certificate: bytes
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def digest(self) -> str:
        """Return the hex SHA-256 of its public key: what join tokens pin."""
        return identity.ca_digest(self.certificate).hex()


def make_authority(cluster_id: str, now: datetime) -> Authority:
    """Make a CA and store it, wrapped, in the caller's transaction."""
    certificate, key = identity.make_ca(cluster_id, now)
    authority = Authority(certificate, key)
    CertificateAuthority.objects.create(
        digest=authority.digest,
        certificate=certificate,
        key_wrapped=identity.wrap_key(key, settings.OCTASKLY_CA_WRAPPING_KEY),
        created_at=now,
    )
    return authority


def authorities() -> list[Authority]:
    """Return all, oldest first; raises BadProof under another secret key than the one they were made with."""
    wrapping_key = settings.OCTASKLY_CA_WRAPPING_KEY
    return [
        Authority(bytes(row.certificate), identity.unwrap_key(bytes(row.key_wrapped), wrapping_key))
        for row in CertificateAuthority.objects.all()
    ]


def trusted_certificates() -> tuple[bytes, ...]:
    """Return what workers are to trust (DER), newest first; no key is opened for it."""
    return tuple(bytes(row[0]) for row in read("SELECT certificate FROM certificate_authorities ORDER BY id DESC"))


def worker_lifetime() -> timedelta:
    """Return how long workers' certificates last."""
    return timedelta(seconds=settings.OCTASKLY_WORKER_CERTIFICATE_S)


def dispatcher_lifetime() -> timedelta:
    """Return how long the dispatcher's own certificate lasts."""
    return timedelta(seconds=settings.OCTASKLY_DISPATCHER_CERTIFICATE_S)
