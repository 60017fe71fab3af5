"""Put a task's inputs into its workspace: from the cache, by the cheapest way that leaves the cached file alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from octaskly_wire.file_names import first_double, objection_to_name
from octaskly_wire.messages import AssignAttempt, InputFile
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.policy import folders_of
from worker_node.shell.blob_cache import BlobCache, CannotFetch
from worker_node.shell.stoppable import Stop, on_thread

COPY_BYTES: Final = 8 << 20
"""Copied at once; between two such pieces a stop is heard."""
_FICLONE: Final = 0x4004_9409
_READ_ONLY: Final = 0o444


class StagingFailed(Exception):
    """The inputs could not be put in place; the text names one and why."""


@dataclass(frozen=True)
class Placing:
    """How files come into a workspace."""

    has_own_users: bool
    """Commands run as users who do not own what the worker puts there."""
    shortage_of: Callable[[int], str]
    """What is missing on the disk for so many bytes more, in words; empty when there is room."""


class Staging:
    """Stages the inputs of one worker's attempts."""

    def __init__(self, cache: BlobCache, placing: Placing, pool: Executor) -> None:
        """Take the parts."""
        self._cache = cache
        self._placing = placing
        self._pool = pool

    async def stage(self, assignment: AssignAttempt, folder: Path) -> dict[str, Path]:
        """Return the cached file of each input, all of which are in place then; raise StagingFailed."""
        names = [file.name for file in assignment.inputs]
        for name in names:
            if objection := objection_to_name(name):
                raise StagingFailed(f"input {name!r}: the name {objection}")
        if double := first_double(names):
            raise StagingFailed(f"input {double!r}: another input has this name, too")
        fetches = [asyncio.create_task(self._fetch(assignment.attempt_id, file)) for file in assignment.inputs]
        try:
            paths = await asyncio.gather(*fetches)
        finally:
            for fetch in fetches:
                fetch.cancel()
            await asyncio.gather(*fetches, return_exceptions=True)
        cached = dict(zip(names, paths, strict=True))
        # At very_strict the command meets the workspace only through a mount that is read-only.
        may_link = self._placing.has_own_users or assignment.sandbox is SandboxLevel.VERY_STRICT
        await on_thread(partial(self._place_all, cached, folder, may_link=may_link), self._pool)
        return cached

    async def _fetch(self, attempt_id: str, file: InputFile) -> Path:
        try:
            return await self._cache.hold(attempt_id, file)
        except CannotFetch as error:
            raise StagingFailed(f"input {file.name!r}: {error}") from error

    def _place_all(self, cached: dict[str, Path], folder: Path, stop: Stop, *, may_link: bool) -> None:
        for name in folders_of(cached):
            _make_folder(folder / name)
        for name, source in cached.items():
            stop.check()
            try:
                self._place(source, folder / name, stop, may_link=may_link)
            except OSError as error:
                raise StagingFailed(f"input {name!r}: {error.strerror or error}") from error

    def _place(self, source: Path, target: Path, stop: Stop, *, may_link: bool) -> None:
        if may_link:
            # Another disk, or more links than a file can have.
            with contextlib.suppress(OSError):
                target.hardlink_to(source)
                return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with source.open("rb", buffering=0) as content:
            fd = os.open(target, flags, 0o600)
            try:
                if not _is_cloned(content.fileno(), fd):
                    size_bytes = os.fstat(content.fileno()).st_size
                    if shortage := self._placing.shortage_of(size_bytes):
                        raise OSError(0, shortage)
                    _copy(content.fileno(), fd, stop)
            finally:
                os.close(fd)
        target.chmod(_READ_ONLY)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise StagingFailed(f"the folder {path.name!r} of an input: {error.strerror or error}") from error


def _is_cloned(source: int, target: int) -> bool:
    """Share the blocks of a file with another one, where the file system can."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _copy(source: int, target: int, stop: Stop) -> None:
    while True:
        stop.check()
        if sys.platform == "linux":
            if not os.sendfile(target, source, None, COPY_BYTES):
                return
            continue
        piece = os.read(source, COPY_BYTES)
        if not piece:
            return
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(target, rest) :]
