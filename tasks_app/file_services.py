"""What people do to files: store one under a name, delete one. Each is one transaction with its audit row."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256 as new_sha256
from typing import Any, Final, Protocol

from django.conf import settings
from django.db import transaction

from audit_app.trail import AuditEvent, record
from dispatcher.ports import BlobMismatch, NoRoomForBlob
from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.blob_store import MEGABYTE, store
from tasks_app.file_selectors import kept_bytes
from tasks_app.models import Blob, File

PIECE_BYTES: Final = 1 << 20


class QuotaExceeded(Exception):
    """The user's files would come to more than they may; the text has both numbers."""


class Source(Protocol):
    """Where a content is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to that many bytes, none at the end."""


def upload(owner: Any, name: str, source: Source, size_bytes: int | None) -> tuple[File, bool]:
    """Store a content under the user's name for it; return the file and whether the name is new.

    The size is what was announced, None when nothing was. Raises QuotaExceeded, and what the store raises when the
    content is too large, is not the promised one, or has no room. Tasks that were submitted before keep what the name
    stood for then.
    """
    if size_bytes is not None:
        # Before anything is read: what cannot fit even where all else of the user's is left out.
        _check_quota(size_bytes)
    sha256, received_bytes = _receive(owner, name, source, size_bytes)
    now = datetime.now(UTC)
    with transaction.atomic():
        _check_quota(received_bytes, kept_bytes(owner, without_name=name, with_content=sha256))
        if not Blob.objects.filter(sha256=sha256).update(used_at=now):
            raise NoRoomForBlob("the content was removed before it got its name; send it again")
        before = File.objects.filter(owner=owner, name=name).first()
        file, _ = File.objects.update_or_create(
            owner=owner, name=name, defaults={"blob_id": sha256, "created_at": now, "used_at": now}
        )
        details = {"name": name, "size_bytes": received_bytes, "sha256": sha256}
        if before is not None:
            details["replaced_sha256"] = before.blob_id
        record(AuditEvent("file_uploaded", owner.get_username(), details=details), at=now)
    return file, before is None


def delete(file: File, actor: Any) -> None:
    """Let go of a name; its content goes when nothing else needs it."""
    now = datetime.now(UTC)
    with transaction.atomic():
        file.delete()
        details = {"name": file.name, "sha256": file.blob_id}
        record(AuditEvent("file_deleted", actor.get_username(), details=details), at=now)


def _receive(owner: Any, name: str, source: Source, size_bytes: int | None) -> tuple[str, int]:
    """Take the content in and return its digest and size."""
    promised = name.removeprefix(DIGEST_PREFIX) if name.startswith(DIGEST_PREFIX) else ""
    # The digest is not told to the store: it would take a content that is here as received, and whoever only knows
    # the digest of somebody else's file must not come to it this way.
    incoming = store().receive("", -1 if size_bytes is None else size_bytes, f"user {owner.pk}")
    seen = new_sha256()
    try:
        while piece := source.read(PIECE_BYTES):
            incoming.write(piece)
            if promised:
                seen.update(piece)
        # Here, since after `finish` it would stay, under a digest that nobody asked for.
        if promised and seen.hexdigest() != promised:
            raise BlobMismatch(f"the SHA-256 of what came is {seen.hexdigest()}, not {promised}")
        received_bytes = incoming.received_bytes
        return incoming.finish(), received_bytes
    except OSError as error:
        raise NoRoomForBlob(f"the content cannot be written: {error.strerror or error}") from error
    finally:
        incoming.close()


def _check_quota(size_bytes: int, kept: int = 0) -> None:
    quota_mb = settings.OCTASKLY_FILES_QUOTA_MB
    if kept + size_bytes > quota_mb * MEGABYTE:
        raise QuotaExceeded(
            f"your files may come to {quota_mb} MB in all: this one has {size_bytes} bytes, the others {kept}"
        )
