"""Contents that wait to be sent: outputs by their digest, on disk for good, kept while an outcome names them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from octaskly_wire.messages import OutputFile
from worker_node.shell.durable import UNFINISHED, sync_folder
from worker_node.shell.removing import is_leftover, remove_file
from worker_node.shell.stoppable import Stop
from worker_node.shell.taking_over import take_over

COPY_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[0-9a-f]{64}\Z")


class Outgoing:
    """A folder of contents and the attempts that need each. `add` and `open` may be called on any thread."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, closed to other users; raises OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder: Final = folder
        self._lock = threading.Lock()
        self._holders: dict[str, set[str]] = {}

    def take_over(self, attempt_id: str, name: str, source: int, size_bytes: int, stop: Stop) -> OutputFile | None:
        """Keep an open file for an attempt as it is; None where it has to be copied. Raises OSError.

        It may lose its owner and mode. On disk it is as after `add`.
        """
        unfinished = self._unfinished()
        if not take_over(source, size_bytes, unfinished):
            return None
        with _removed_unless_kept(unfinished):
            digest = hashlib.sha256()
            with ThreadPoolExecutor(1) as syncing:  # The disk writes while the processor hashes.
                synced = syncing.submit(os.fsync, source)
                for piece in _pieces(source, size_bytes, stop):
                    digest.update(piece)
                synced.result()
            return self._keep(unfinished, attempt_id, OutputFile(name, digest.hexdigest(), size_bytes))

    def add(self, attempt_id: str, name: str, source: int, size_bytes: int, stop: Stop) -> OutputFile:
        """Copy so many bytes of an open file, or as many as there are, for an attempt; raises OSError.

        The content is on disk when this returns; its name only after `sync`.
        """
        unfinished = self._unfinished()
        digest, copied = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with _removed_unless_kept(unfinished):
            fd = os.open(unfinished, flags, 0o600)
            try:
                for piece in _pieces(source, size_bytes, stop):
                    digest.update(piece)
                    copied += len(piece)
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            return self._keep(unfinished, attempt_id, OutputFile(name, digest.hexdigest(), copied))

    def _unfinished(self) -> Path:
        return self.folder / f".{secrets.token_hex(8)}{UNFINISHED}"

    def _keep(self, unfinished: Path, attempt_id: str, file: OutputFile) -> OutputFile:
        """Give a content its name; where an equal one is kept already, that one serves both."""
        path = self.folder / file.sha256
        # Under the lock, so that nobody who lets go of an equal content takes this one away.
        with self._lock:
            is_here = file.sha256 in self._holders and path.exists()
            if not is_here:
                unfinished.replace(path)
            self._holders.setdefault(file.sha256, set()).add(attempt_id)
        if is_here:
            unfinished.unlink()  # may take long, and the loop may want the lock
        return file

    def sync(self) -> None:
        """Return once the names of all that was added are on disk; raises OSError."""
        sync_folder(self.folder)

    def open(self, digest: str) -> BinaryIO:
        """Open a content to be read; raises OSError."""
        return (self.folder / digest).open("rb", buffering=0)

    def hold(self, attempt_id: str, digests: Iterable[str]) -> None:
        """Keep contents that an earlier life left for an attempt."""
        with self._lock:
            for digest in digests:
                self._holders.setdefault(digest, set()).add(attempt_id)

    def release(self, attempt_id: str) -> None:
        """Remove what nobody needs besides this attempt."""
        with self._lock:
            for digest in [digest for digest, holders in self._holders.items() if attempt_id in holders]:
                holders = self._holders[digest]
                holders.discard(attempt_id)
                if not holders:
                    del self._holders[digest]
                    remove_file(self.folder / digest)

    def wipe_unheld(self) -> None:
        """Remove what an earlier life left for nobody; raises OSError."""
        with self._lock:
            for path in list(self.folder.iterdir()):
                if is_leftover(path.name) or (_NAME.match(path.name) and path.name not in self._holders):
                    remove_file(path)


def _pieces(source: int, size_bytes: int, stop: Stop) -> Iterator[bytes]:
    while size_bytes and (piece := os.read(source, min(COPY_BYTES, size_bytes))):
        stop.check()
        yield piece
        size_bytes -= len(piece)


@contextlib.contextmanager
def _removed_unless_kept(unfinished: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
