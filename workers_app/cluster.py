"""The cluster's identity: its id and its certificate authority, made once, wrapped by the secret key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction

from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from workers_app.models import Cluster


class WrongSecretKey(Exception):
    """The database was made with another secret key."""


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """What certificates are made with."""

    cluster_id: str
    ca_certificate: bytes
    ca_key: Ed25519PrivateKey


def ensure_cluster(now: datetime) -> ClusterIdentity:
    """Return the cluster's identity, made at the first call; raises WrongSecretKey."""
    with transaction.atomic():
        row = Cluster.objects.first()
        if row is None:
            cluster_id = str(uuid.uuid4())
            ca_certificate, ca_key = identity.make_ca(cluster_id, now)
            Cluster.objects.create(
                cluster_id=cluster_id,
                ca_certificate=ca_certificate,
                ca_key_wrapped=identity.wrap_key(ca_key, settings.OCTASKLY_CA_WRAPPING_KEY),
                created_at=now,
            )
            return ClusterIdentity(cluster_id, ca_certificate, ca_key)
    try:
        ca_key = identity.unwrap_key(bytes(row.ca_key_wrapped), settings.OCTASKLY_CA_WRAPPING_KEY)
    except BadProof:
        raise WrongSecretKey("it does not open this cluster's certificate authority") from None
    return ClusterIdentity(row.cluster_id, bytes(row.ca_certificate), ca_key)
