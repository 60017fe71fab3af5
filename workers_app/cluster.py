"""The cluster's identity: its id, the CA that every worker knows and its server key, wrapped by the secret key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction

from octaskly_wire import server_key
from octaskly_wire.errors import BadProof
from workers_app.authorities import authorities, make_authority
from workers_app.models import Cluster


class WrongSecretKey(Exception):
    """The database was made with another secret key."""


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """What the cluster proves itself with. The CA is the oldest: the one that every worker knows."""

    cluster_id: str
    ca_certificate: bytes
    ca_key: Ed25519PrivateKey
    server_key: EllipticCurvePrivateKey

    @property
    def pin(self) -> str:
        """Return what a client compares the server's key with."""
        return server_key.pin_of(self.server_key)


def ensure_cluster(now: datetime) -> ClusterIdentity:
    """Return the cluster's identity, made at the first call; raises WrongSecretKey."""
    wrapping_key = settings.OCTASKLY_CA_WRAPPING_KEY
    with transaction.atomic():
        row = Cluster.objects.first()
        if row is None:
            row = Cluster.objects.create(cluster_id=str(uuid.uuid4()), created_at=now)
            make_authority(row.cluster_id, now)
        try:
            oldest = authorities()[0]
            if not row.server_key_wrapped:  # A new cluster, or one of a version before there was this key.
                row.server_key_wrapped = server_key.wrap_server_key(server_key.new_server_key(), wrapping_key)
                row.save(update_fields=["server_key_wrapped"])
            own_key = server_key.unwrap_server_key(bytes(row.server_key_wrapped), wrapping_key)
        except BadProof:
            raise WrongSecretKey("it does not open this cluster's certificate authority") from None
    return ClusterIdentity(row.cluster_id, oldest.certificate, oldest.key, own_key)


def record_address(address: str) -> None:
    """Keep the HOST:PORT at which workers reach the dispatcher, for the lines that join machines."""
    Cluster.objects.exclude(listens_on=address).update(listens_on=address)


def recorded_address() -> str:
    """Return it; empty before the dispatcher has started once."""
    return Cluster.objects.values_list("listens_on", flat=True).first() or ""
