"""Keeps contents on disk under their SHA-256, each once: takes them in, gives them out, forgets them.

    blobs/ab/<64 hex digits>    a whole content, named by its digest and never changed
    blobs/incoming/             what is still on its way, or was cut off

A content is here when its row and its file are. The file comes before its row and goes after it: a crash in between
leaves a file that nobody names, which the next one to store that content takes over, and never a name without a file.
Whoever removes contents deletes the rows, commits, and then calls `unlink`, all of it while he holds `lock`; and he
takes the lock outside of any transaction, for the one who holds it may be waiting for the database.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import secrets
import shutil
import threading
import time
from datetime import UTC, datetime
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import BinaryIO, Final

from django.conf import settings
from django.db import OperationalError, connection

from audit_app.durable import sync_folder
from dispatcher.ports import BlobRefused, BlobTooLarge, IncomingBlob, NoRoomForBlob
from tasks_app.incoming_blob import PartialBlob, PresentBlob
from tasks_app.models import Blob

logger = logging.getLogger(__name__)

MEGABYTE: Final = 1 << 20
PARTIAL_LIFETIME_S: Final = 86_400.0
"""How long what was cut off waits for its sender to go on."""

WAIT_FOR_OTHER_S: Final = 1.0
"""For the other link over which the same sender sends the same content."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_UNKNOWN: Final = "unknown"


class BlobStore:
    """Implements dispatcher.ports.Blobs. Every method blocks and may be called from any thread."""

    def __init__(self, folder: Path, *, max_bytes: int, reserve_bytes: int) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        """Held while rows and files of whole contents come and go."""
        self._incoming = folder / "incoming"
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._partials: dict[Path, PartialBlob] = {}
        self._partials_changed = threading.Condition()

    # --- what is here ------------------------------------------------------------------------------

    def path(self, sha256: str) -> Path:
        """Return where the content lies or would lie; raises FileNotFoundError when this is no digest."""
        if not _DIGEST.fullmatch(sha256):
            raise FileNotFoundError(f"{sha256[:80]!r} is no SHA-256 in lower-case hex")
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether the content is here: its row, and its file at full length."""
        size_bytes = Blob.objects.filter(sha256=sha256).values_list("size_bytes", flat=True).first()
        _let_connection_go()
        return size_bytes is not None and self._size_of_file(sha256) == size_bytes

    def open(self, sha256: str) -> BinaryIO:
        """Return the content, opened for reading; raises FileNotFoundError."""
        return self.path(sha256).open("rb")

    def _size_of_file(self, sha256: str) -> int | None:
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    # --- taking in ---------------------------------------------------------------------------------

    def receive(self, sha256: str, size_bytes: int, sender: str) -> IncomingBlob:
        """Begin to take a content, or go on where this sender was cut off; raises BlobRefused.

        With `sha256` empty the digest is worked out on the way, and with `size_bytes` -1 the end is where `finish` is
        called. What is here already needs no byte more: then all of it counts as received. So whoever must prove that
        he has the content, and does not only know its digest, passes no digest.
        """
        if sha256 and not _DIGEST.fullmatch(sha256):
            raise BlobRefused(f"{sha256[:80]!r} is no SHA-256 in lower-case hex")
        if size_bytes > self._max_bytes:
            raise self.too_large(f"{size_bytes} bytes are")
        if present := self._present(sha256, size_bytes):
            return present
        for folder in (self.folder, self._incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._partials_changed:
            partial = PartialBlob(self, self._partial_path(sha256, sender), sha256, size_bytes)
            self._partials[partial.path] = partial
        try:
            if present := self._present(sha256, size_bytes):  # It may have come while this one waited for a path.
                partial.close()
                return present
            partial.go_on()
            self.check_room()
        except BaseException:
            partial.close()
            raise
        return partial

    def _present(self, sha256: str, size_bytes: int) -> PresentBlob | None:
        """Return the content if all of it is here, and note that it is used."""
        if not sha256:
            return None
        with self.lock:
            found = self._size_of_file(sha256)
            if found is None or (size_bytes >= 0 and found != size_bytes):
                return None
            # A file without a row was left by a crash: it was verified before it got its name.
            self._note(sha256, found)
            return PresentBlob(sha256, found)

    def _partial_path(self, sha256: str, sender: str) -> Path:
        """Return the file to gather a content in: the sender's own, unless another link goes on writing to that.

        The other one may be about to end, since it was cut, or since the same content is small.
        """
        if sha256:
            path = self._incoming / f"{sha256}.{new_sha256(sender.encode()).hexdigest()[:16]}"
            if self._partials_changed.wait_for(lambda: path not in self._partials, WAIT_FOR_OTHER_S):
                return path
        return self._incoming / f"{_UNKNOWN}.{secrets.token_hex(16)}"

    def too_large(self, what: str) -> BlobTooLarge:
        """Return the refusal of a content that is more than the cap."""
        return BlobTooLarge(f"{what} more than the {self._max_bytes // MEGABYTE} MB a file may have")

    def check_size(self, received_bytes: int) -> None:
        """Raise BlobTooLarge when so much has come that it can only be too large."""
        if received_bytes > self._max_bytes:
            raise self.too_large("what came is")

    def check_room(self) -> None:
        """Raise NoRoomForBlob when what is announced and has not come yet would use up the disk."""
        if not self._reserve_bytes:
            return
        with self._partials_changed:
            announced = sum(partial.missing_bytes for partial in self._partials.values())
        free = shutil.disk_usage(self._incoming).free
        if free - announced < self._reserve_bytes:
            raise NoRoomForBlob(
                f"the dispatcher's disk has no room: {free // MEGABYTE} MB are free, {announced // MEGABYTE} MB are"
                f" on their way, {self._reserve_bytes // MEGABYTE} MB are kept free"
            )

    def keep(self, partial: Path, sha256: str, size_bytes: int) -> None:
        """Give a verified file, which is on the disk for good, its name and its row."""
        path = self.path(sha256)
        with self.lock:
            is_new_folder = not path.parent.exists()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            partial.replace(path)
            sync_folder(path.parent)
            if is_new_folder:
                sync_folder(self.folder)
            self._note(sha256, size_bytes)

    def let_go(self, partial: Path) -> None:
        """Forget a partial: its file is free for the sender's next try."""
        with self._partials_changed:
            self._partials.pop(partial, None)
            self._partials_changed.notify_all()

    def _note(self, sha256: str, size_bytes: int) -> None:
        now = datetime.now(UTC)
        try:
            Blob.objects.bulk_create(
                [Blob(sha256=sha256, size_bytes=size_bytes, created_at=now, used_at=now)],
                update_conflicts=True,
                update_fields=["size_bytes", "used_at"],
                unique_fields=["sha256"],
            )
        except OperationalError as error:
            raise NoRoomForBlob(f"the database cannot be written just now: {error}") from error
        finally:
            _let_connection_go()

    # --- forgetting --------------------------------------------------------------------------------

    def unlink(self, sha256: str) -> None:
        """Remove the file of a content whose row is gone; call with `lock` held since before the row was deleted."""
        try:
            self.path(sha256).unlink(missing_ok=True)
        except OSError as error:  # On Windows while somebody reads it; the next one to store it takes it over.
            logger.warning("Cannot remove the content %s: %s", sha256, error)

    def sweep(self) -> None:
        """Remove what was cut off and nobody can go on with, or has gone on with for a day, and what nobody names."""
        oldest = time.time() - PARTIAL_LIFETIME_S
        self._sweep_partials(oldest)
        self._sweep_nameless(oldest)

    def _sweep_nameless(self, oldest: float) -> None:
        """Remove files without a row, as a crash or an older backup of the database leaves them."""
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            paths = {path.name: path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)}
            with self.lock:
                named = Blob.objects.filter(sha256__startswith=folder.name).values_list("sha256", flat=True)
                for digest in paths.keys() - set(named):
                    with contextlib.suppress(FileNotFoundError):
                        if paths[digest].stat().st_mtime < oldest:
                            self.unlink(digest)

    def _sweep_partials(self, oldest: float) -> None:
        if not self._incoming.is_dir():
            return
        for path in self._incoming.iterdir():
            with self._partials_changed, contextlib.suppress(OSError):
                is_over = path.name.startswith(_UNKNOWN) or path.stat().st_mtime < oldest
                if is_over and path not in self._partials:
                    path.unlink()


def _let_connection_go() -> None:
    """Close this thread's connection: nobody else may tell the thread to, and after an error it may be broken."""
    if not connection.in_atomic_block:
        connection.close()


def store() -> BlobStore:
    """Return the one store of this process, beside the database that the settings name."""
    return _store_in(
        settings.DB_PATH.parent / "blobs",
        settings.OCTASKLY_MAX_FILE_MB * MEGABYTE,
        int(settings.OCTASKLY_DISK_RESERVE_MB * MEGABYTE),
    )


@functools.cache
def _store_in(folder: Path, max_bytes: int, reserve_bytes: int) -> BlobStore:
    return BlobStore(folder, max_bytes=max_bytes, reserve_bytes=reserve_bytes)
