"""The keys before a change of the secret key: for some days what they signed, sessions and tokens, goes on.

They lie in the database, sealed under the present secret key, and are read before Django starts: settings hold them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from django.conf import settings

from audit_app.seal import WrongSeal, seal, unseal

KEPT: Final = timedelta(days=7)
"""As long as a refresh token lives: after that nothing can be left that was signed with them."""

_PURPOSE: Final = "former keys"


@dataclass(frozen=True, repr=False)
class FormerKeys:
    """What one secret key before the present one signed with, and until when it is believed."""

    django: str
    jwt: str
    until: datetime


def sealed(former: Sequence[FormerKeys], wrapping_key: bytes) -> bytes:
    """Return them for the database; empty when there are none."""
    rows = [(keys.django, keys.jwt, keys.until.isoformat()) for keys in former]
    return seal(wrapping_key, _PURPOSE, json.dumps(rows).encode()) if rows else b""


def opened(blob: bytes, wrapping_key: bytes, now: datetime) -> list[FormerKeys]:
    """Return those that are still believed; none under another secret key, which the dispatcher refuses at its start."""
    try:
        rows = json.loads(unseal(wrapping_key, _PURPOSE, blob)) if blob else []
    except WrongSeal:
        return []
    keys = [FormerKeys(django, jwt, datetime.fromisoformat(until)) for django, jwt, until in rows]
    return [one for one in keys if one.until > now]


def read_former_keys(database: Path, wrapping_key: bytes) -> list[FormerKeys]:
    """Return those of a database, which may not be there yet, or be older than this table."""
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=10)) as connection:
            row = connection.execute("SELECT former_keys_sealed FROM cluster").fetchone()
    except sqlite3.Error:
        return []
    return opened(bytes(row[0]), wrapping_key, datetime.now(UTC)) if row else []


def forget_expired(now: datetime) -> None:
    """Forget keys whose time is up, in the database and in this process."""
    from workers_app.models import Cluster

    if not settings.OCTASKLY_FORMER_KEYS:
        return
    left = [keys for keys in settings.OCTASKLY_FORMER_KEYS if keys.until > now]
    if len(left) == len(settings.OCTASKLY_FORMER_KEYS):
        return
    until = max((keys.until for keys in left), default=None)
    Cluster.objects.update(former_keys_sealed=sealed(left, settings.OCTASKLY_CA_WRAPPING_KEY), former_keys_until=until)
    settings.OCTASKLY_FORMER_KEYS[:] = left
    settings.SECRET_KEY_FALLBACKS[:] = [keys.django for keys in left]
