"""The files of the cache: where they lie, how one arrives, and how it is known to be what arrived.

A file that was verified gets a time of change that follows from its digest. Whatever changes it later changes that
time, so that its size and this time are proof enough, without an index that could be wrong. Nothing is synced: a
file that a power cut left without its end has another size, and is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from octaskly_wire.messages import InputFile
from worker_node.shell.removing import is_leftover, remove_file
from worker_node.shell.stoppable import Stop

logger = logging.getLogger(__name__)

PART: Final = ".part"
READ_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[0-9a-f]{64}(\.part)?\Z")
_STAMPS_BEGIN_S: Final = 946_684_800
"""The year 2000: some archive formats know no time before 1980."""


class WrongContent(Exception):
    """What arrived does not have the digest it was asked for by."""


class CachedFiles:
    """A folder of contents by digest."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, closed to other users; raises OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder: Final = folder

    def path_of(self, digest: str) -> Path:
        """Return where a content lies when it is whole."""
        return self.folder / digest[:2] / digest

    def part_path_of(self, digest: str) -> Path:
        """Return where a content lies while it arrives."""
        return self.folder / digest[:2] / (digest + PART)

    def load(self) -> Iterator[tuple[str, int]]:
        """Yield digest and size of all contents that are here, the least recently used first."""
        found: dict[str, tuple[float, int]] = {}
        for path in self.folder.glob("??/*"):
            if is_leftover(path.name):
                remove_file(path)
                continue
            if not _NAME.match(path.name):
                logger.warning("%s is no content and is left alone", path)
                continue
            status = path.lstat()
            digest = path.name.removesuffix(PART)
            last_use, size_bytes = found.get(digest, (0.0, 0))
            found[digest] = max(last_use, status.st_atime), size_bytes + status.st_size
        for digest, (_, size_bytes) in sorted(found.items(), key=lambda item: item[1][0]):
            yield digest, size_bytes

    def is_whole(self, digest: str, size_bytes: int) -> bool:
        """Return whether a content is here as it was verified; one that was changed since is removed."""
        path = self.path_of(digest)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return False
        if status.st_size == size_bytes and int(status.st_mtime) == _stamp_s(digest):
            return True
        logger.warning("%s was changed and is fetched again", path)
        remove_file(path)
        return False

    def touch(self, digest: str) -> None:
        """Note a use."""
        with contextlib.suppress(OSError):
            _set_times(self.path_of(digest), digest)

    def part_bytes(self, digest: str) -> int:
        """Return how much of a content that is not whole has arrived."""
        return _size_of(self.part_path_of(digest))

    def whole_bytes(self, digest: str) -> int:
        """Return the size of a whole content, 0 when it is not here."""
        return _size_of(self.path_of(digest))

    def remove(self, digest: str) -> None:
        """Remove a content or what there is of it."""
        for path in (self.path_of(digest), self.part_path_of(digest)):
            remove_file(path)


class Incoming:
    """A content that arrives: written and hashed piece by piece, put in its place when it is the right one."""

    def __init__(self, files: CachedFiles, file: InputFile, stop: Stop) -> None:
        """Go on behind what an earlier try left; raises OSError."""
        self._files = files
        self._file = file
        self._part = files.part_path_of(file.sha256)
        self._part.parent.mkdir(mode=0o700, exist_ok=True)
        self._hash = hashlib.sha256()
        self.offset = 0
        """Where the next piece belongs."""
        self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        if os.fstat(self._fd).st_size > file.size_bytes:
            os.ftruncate(self._fd, 0)
        while piece := os.read(self._fd, READ_BYTES):
            stop.check()
            self._hash.update(piece)
            self.offset += len(piece)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file; what arrived stays for the next try."""
        if self._fd >= 0:
            os.close(self._fd)

    def take(self, data: bytes) -> None:
        """Append a piece; raises OSError."""
        rest = memoryview(data)
        self._hash.update(rest)
        self.offset += len(rest)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def finish(self) -> None:
        """Put the content in its place; raises WrongContent, and then nothing of it is kept."""
        os.close(self._fd)
        self._fd = -1
        digest = self._file.sha256
        if self.offset != self._file.size_bytes or self._hash.hexdigest() != digest:
            self._part.unlink()
            raise WrongContent(f"what arrived is not the content {digest}")
        # Everybody may read it: a command of another user does so by a link of its own to it.
        self._part.chmod(0o444)
        _set_times(self._part, digest)
        self._part.replace(self._files.path_of(digest))


def _stamp_s(digest: str) -> int:
    # Even, since some file systems count in two seconds.
    return _STAMPS_BEGIN_S + 2 * int(digest[:7], 16)


def _set_times(path: Path, digest: str) -> None:
    os.utime(path, (time.time(), _stamp_s(digest)))


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
