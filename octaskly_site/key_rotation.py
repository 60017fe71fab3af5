"""Changes the secret key: everything that is wrapped with the old one is wrapped with the new one, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction

from audit_app import keys as audit_keys
from audit_app.trail import AuditEvent, record
from octaskly_site import former_keys, staged_secret
from octaskly_site.database_lock import DatabaseLock
from octaskly_site.env import ConfigurationError
from octaskly_site.former_keys import KEPT, FormerKeys
from octaskly_site.secret_key import DerivedKeys, derive_keys
from octaskly_wire import identity, server_key
from workers_app.cluster import ensure_cluster
from workers_app.models import CertificateAuthority, Cluster


@dataclass(frozen=True, slots=True)
class Change:
    """What is wished: the new secret key, whether `secret.key` is to hold it, and whether sessions end."""

    secret: str
    is_in_file: bool
    ends_sessions: bool


def rotate(database: Path, change: Change, now: datetime) -> int:
    """Change the secret key and return how many keys were wrapped anew.

    Raises ConfigurationError when it cannot be, DatabaseInUse while a dispatcher runs, WrongSecretKey under another one
    than the database's. At every moment either the old or the new secret key opens everything.
    """
    new = derive_keys(change.secret)
    if new.ca_wrapping == settings.OCTASKLY_CA_WRAPPING_KEY:
        raise ConfigurationError("--new-secret-key: that is the present one", exit_code=2)
    with DatabaseLock(database):
        try:
            staged_secret.settle(database)
            ensure_cluster(now)
            if change.is_in_file:
                staged_secret.stage(database.parent, change.secret)
            count = _wrap_anew(new, now, ends_sessions=change.ends_sessions)
            if change.is_in_file:
                staged_secret.put_in_place(database.parent)
        except OSError as error:
            raise ConfigurationError(f"cannot write in {database.parent}: {error.strerror or error}") from error
    return count


def _wrap_anew(new: DerivedKeys, now: datetime, *, ends_sessions: bool) -> int:
    old_key, new_key = settings.OCTASKLY_CA_WRAPPING_KEY, new.ca_wrapping
    with connection.cursor() as cursor:
        # Whoever has the old secret key shall find nothing that it opens in pages that are free now.
        cursor.execute("PRAGMA secure_delete=ON")
    with transaction.atomic():
        # Before the trail's keys change: this process writes it with the old ones.
        record(AuditEvent("keys_rotated", "operator", details={"ends_sessions": ends_sessions}), at=now)
        count = 1 + audit_keys.reseal(settings.OCTASKLY_AUDIT_SEALING_KEY, new.audit_sealing)
        for authority in CertificateAuthority.objects.all():
            key = identity.unwrap_key(bytes(authority.key_wrapped), old_key)
            authority.key_wrapped = identity.wrap_key(key, new_key)
            authority.save(update_fields=["key_wrapped"])
            count += 1
        cluster = Cluster.objects.get()
        own_key = server_key.unwrap_server_key(bytes(cluster.server_key_wrapped), old_key)
        cluster.server_key_wrapped = server_key.wrap_server_key(own_key, new_key)
        former = [] if ends_sessions else _former_keys(bytes(cluster.former_keys_sealed), now)
        cluster.former_keys_sealed = former_keys.sealed(former, new_key)
        cluster.former_keys_until = max((keys.until for keys in former), default=None)
        cluster.save(update_fields=["server_key_wrapped", "former_keys_sealed", "former_keys_until"])
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count


def _former_keys(blob: bytes, now: datetime) -> list[FormerKeys]:
    present = FormerKeys(settings.SECRET_KEY, settings.SIMPLE_JWT["SIGNING_KEY"], now + KEPT)
    return [present, *former_keys.opened(blob, settings.OCTASKLY_CA_WRAPPING_KEY, now)]
