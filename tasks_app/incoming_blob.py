"""A content on its way in: gathered in a file and hashed as it comes, verified, synced, then handed to the store."""

from __future__ import annotations

import contextlib
import errno
import os
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from dispatcher.ports import BlobMismatch, BlobRefused, NoRoomForBlob

READ_BYTES: Final = 1 << 20
LOOK_EVERY_BYTES: Final = 16 << 20
"""Between two looks at the room on the disk."""
SYNC_EVERY_BYTES: Final = 64 << 20
"""So that the disk never owes so much that the database's next commit waits for seconds behind it."""


class Keeper(Protocol):
    """What a partial content needs of the store."""

    def check_size(self, received_bytes: int) -> None:
        """Raise BlobTooLarge."""

    def check_room(self) -> None:
        """Raise NoRoomForBlob."""

    def keep(self, partial: Path, sha256: str, size_bytes: int) -> None:
        """Give a verified and synced file its name and its row."""

    def let_go(self, partial: Path) -> None:
        """Forget the partial."""


class PresentBlob:
    """A content that is here already: nothing of it needs to come."""

    def __init__(self, sha256: str, size_bytes: int) -> None:
        self.received_bytes = size_bytes
        self._sha256 = sha256

    def write(self, data: bytes) -> None:
        """Refuse what is too much."""
        raise BlobRefused(f"{len(data)} bytes more than were announced")

    def finish(self) -> str:
        """Return the SHA-256."""
        return self._sha256

    def close(self) -> None:
        """Do nothing: nothing is held."""


class PartialBlob:
    """One file that grows. `sha256` empty: worked out on the way; `size_bytes` -1: as much as comes."""

    def __init__(self, keeper: Keeper, path: Path, sha256: str, size_bytes: int) -> None:
        self.path = path
        self.received_bytes = 0
        self._keeper = keeper
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._hash = new_sha256()
        self._file: BinaryIO | None = None
        self._is_resumable = bool(sha256) and path.name.startswith(sha256)
        self._looked_at = 0
        self._synced_at = 0

    @property
    def missing_bytes(self) -> int:
        """Return how much was announced and has not come."""
        return max(0, self._size_bytes - self.received_bytes)

    def go_on(self) -> None:
        """Open the file and hash what is there from an earlier try."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        file = self._file = os.fdopen(os.open(self.path, flags, 0o600), "r+b")
        while data := file.read(READ_BYTES):
            self._hash.update(data)
            self.received_bytes += len(data)
        if 0 <= self._size_bytes < self.received_bytes:
            self._hash, self.received_bytes = new_sha256(), 0
            file.seek(0)
            file.truncate()
        self._looked_at = self._synced_at = self.received_bytes

    def write(self, data: bytes) -> None:
        """Append a piece; raises BlobRefused when it is too much, OSError when it cannot be written."""
        if self._file is None:
            raise ValueError("the content is closed")
        received = self.received_bytes + len(data)
        if 0 <= self._size_bytes < received:
            raise BlobRefused(f"more than the {self._size_bytes} bytes that were announced")
        self._keeper.check_size(received)
        if received - self._looked_at >= LOOK_EVERY_BYTES:
            self._looked_at = received
            self._keeper.check_room()
        try:
            self._file.write(data)
            if received - self._synced_at >= SYNC_EVERY_BYTES:
                self._synced_at = received
                self._sync(self._file)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoRoomForBlob(f"the dispatcher's disk is full: {error.strerror}") from error
            raise
        self._hash.update(data)
        self.received_bytes = received

    def finish(self) -> str:
        """Verify, make durable, and return the SHA-256; raises BlobRefused when the content is another."""
        if self._file is None:
            raise ValueError("the content is closed")
        if self.missing_bytes:
            raise BlobMismatch(f"only {self.received_bytes} of the {self._size_bytes} bytes that were announced came")
        digest = self._hash.hexdigest()
        if self._sha256 and digest != self._sha256:
            self._is_resumable = False
            raise BlobMismatch(f"the SHA-256 of what came is {digest}, not {self._sha256}")
        self._sync(self._file)
        self._file.close()
        self._keeper.keep(self.path, digest, self.received_bytes)
        self._is_resumable = True
        self.close()
        return digest

    def close(self) -> None:
        """Let go of the file. What came is kept for a later try, unless nobody could go on with it."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # Its last bytes may have no room; the next try sees what is there.
                self._file.close()
            self._file = None
            if not (self._is_resumable and self.received_bytes):
                self.path.unlink(missing_ok=True)
        self._keeper.let_go(self.path)

    @staticmethod
    def _sync(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
