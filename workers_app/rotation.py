"""One CA takes over from another: begun by an operator, ended when every worker is ready or time is up.

While two are there both are trusted. The old one stays that of the dispatcher's own certificate, of join tokens and of
machines that enrol, for it is the one that everybody knows; the new one signs what is renewed. At the end the old
one's row, with its key, is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from audit_app.trail import AuditEvent, actor_name, record
from octaskly_wire.vocabulary import Admission
from workers_app.authorities import make_authority
from workers_app.cluster import ensure_cluster
from workers_app.models import CertificateAuthority, JoinToken, Worker

LONGEST: Final = timedelta(days=30)
"""After which the old CA goes, whoever is not ready."""


class RotationRefused(Exception):
    """The step is not possible now; the text says why."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How far the new CA has come."""

    old_digest: str
    new_digest: str
    begun_at: datetime
    ends_at: datetime
    ready_workers: list[str]
    waiting_workers: list[str]
    """Names of those that do not trust the new CA yet, or have no certificate of it."""
    waiting_tokens: list[str]
    """Ids of the join tokens that can still be used and pin the old CA."""

    @property
    def is_ready(self) -> bool:
        """Return whether nobody needs the old CA any more."""
        return not self.waiting_workers and not self.waiting_tokens


def begin(actor: Any, now: datetime) -> Rotation:
    """Make a new CA beside the present one; raises RotationRefused while another rotation is under way."""
    cluster = ensure_cluster(now)
    with transaction.atomic():
        old, *others = CertificateAuthority.objects.all()
        if others:
            raise RotationRefused(
                f"a rotation is under way since {others[0].created_at:%Y-%m-%d %H:%M} UTC; see --status"
            )
        new = make_authority(cluster.cluster_id, now)
        details = {"old": old.digest[:16], "new": new.digest[:16]}
        record(AuditEvent("ca_rotation_begun", actor_name(actor), details=details), at=now)
    rotation = status(now)
    if rotation is None:
        raise RotationRefused("another program has just ended the rotation")
    return rotation


def status(now: datetime) -> Rotation | None:
    """Return the rotation that is under way, None when there is one CA."""
    found = list(CertificateAuthority.objects.all())
    if len(found) < 2:  # noqa: PLR2004 - the old and the new one
        return None
    old, new = found[0], found[-1]
    # Whose certificate has expired must enrol anew in any case.
    workers = Worker.objects.exclude(admission=Admission.REVOKED.value).filter(certificate_expires_at__gt=now)
    ready: list[str] = []
    waiting: list[str] = []
    for worker in workers:
        is_ready = worker.certificate_ca_digest == new.digest and new.digest in worker.trusted_ca_digests
        (ready if is_ready else waiting).append(worker.name)
    tokens = JoinToken.objects.filter(ca_digest=old.digest, uses_left__gt=0, expires_at__gt=now)
    return Rotation(
        old_digest=old.digest,
        new_digest=new.digest,
        begun_at=new.created_at,
        ends_at=new.created_at + LONGEST,
        ready_workers=ready,
        waiting_workers=waiting,
        waiting_tokens=list(tokens.values_list("token_id", flat=True)),
    )


def finish(actor: Any, now: datetime) -> Rotation:
    """Drop the old CA now and return who is left behind; raises RotationRefused when there is only one CA."""
    ensure_cluster(now)  # Under another secret key the new CA could not be used alone.
    with transaction.atomic():
        rotation = status(now)
        if rotation is None:
            raise RotationRefused("no rotation is under way: there is one CA")
        _drop_old(rotation, actor_name(actor), now)
    return rotation


def settle(now: datetime) -> Rotation | None:
    """Drop the old CA if everybody is ready or time is up, and return the rotation that ended so."""
    with transaction.atomic():
        rotation = status(now)
        if rotation is None or not (rotation.is_ready or now >= rotation.ends_at):
            return None
        _drop_old(rotation, "engine", now)
    return rotation


def _drop_old(rotation: Rotation, actor: str, now: datetime) -> None:
    CertificateAuthority.objects.exclude(digest=rotation.new_digest).delete()
    details = {
        "dropped": rotation.old_digest[:16],
        "left_behind": rotation.waiting_workers[:100],
        "tokens_void": len(rotation.waiting_tokens),
    }
    record(AuditEvent("ca_rotation_finished", actor, details=details), at=now)
