"""A task's files on this machine: inputs in before the command, outputs out after it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from octaskly_wire.limits import MAX_OUTPUT_BYTES
from octaskly_wire.messages import AssignAttempt, OutputFile
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.config import FileSettings
from worker_node.sandbox.collecting import CannotCollect, Collected, Rules, collect
from worker_node.sandbox.tree import Tree
from worker_node.shell.blob_cache import BlobCache
from worker_node.shell.capture import LongOutput
from worker_node.shell.keyfile import StateFolderError
from worker_node.shell.outgoing import Outgoing
from worker_node.shell.spill import CAN_SPILL, SpillFolder
from worker_node.shell.staging import Placing, Staging
from worker_node.shell.stoppable import Stop, on_thread
from worker_node.shell.transfers import Source
from worker_node.shell.vitals import shortage_for

THREADS: Final = 4
"""Attempts whose files are copied at once; more wait."""


class TaskFiles:
    """One worker's cache, staging and collecting."""

    def __init__(
        self, folder: Path, settings: FileSettings, reserve_bytes: int, source: Source, *, has_own_users: bool
    ) -> None:
        """Open the folders in the state folder; raises StateFolderError."""
        self._folder = folder
        self._settings = settings
        self._reserve_bytes = reserve_bytes
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="octaskly-files")
        with _told_as_of(folder):
            self.outgoing: Final = Outgoing(folder / "outgoing")
            spills = SpillFolder(folder / "capture", lambda: self._shortage_of(MAX_OUTPUT_BYTES))
            self._cache = BlobCache(folder / "cache", settings.cache_bytes, reserve_bytes, source)
        self.new_spill: Final = spills.new_file if CAN_SPILL else None
        """Makes a file for long output."""
        placing = Placing(has_own_users=has_own_users, shortage_of=self._shortage_of)
        self._staging = Staging(self._cache, placing, self._pool)
        self._staged: dict[str, dict[str, Path]] = {}
        """Cached files by attempt and name."""

    async def stage(self, assignment: AssignAttempt, folder: Path) -> None:
        """Put the inputs into the workspace; raise StagingFailed. `release` must follow."""
        self._staged[assignment.attempt_id] = await self._staging.stage(assignment, folder)

    async def collect(self, assignment: AssignAttempt, folder: Path | int | None) -> Collected:
        """Take the outputs out of the workspace, or out of the folder in memory; raise CannotCollect."""
        if folder is None:
            raise CannotCollect("the folder in memory went with its sandbox")
        return await on_thread(partial(self._collect, assignment, folder), self._pool)

    async def store_stream(self, attempt_id: str, name: str, output: LongOutput) -> OutputFile:
        """Make a content of long output; raise OSError."""

        def store(stop: Stop) -> OutputFile:
            if shortage := self._shortage_of(output.kept_bytes):
                raise OSError(shortage)
            content = self.outgoing.add(attempt_id, name, output.file.fd, output.kept_bytes, stop)
            self.outgoing.sync()
            return content

        return await on_thread(store, self._pool)

    def keep_only(self, contents: Mapping[str, Iterable[OutputFile]]) -> None:
        """Keep what an earlier life left to be sent, by attempt, and wipe the rest; raises StateFolderError."""
        for attempt_id, files in contents.items():
            self.outgoing.hold(attempt_id, [file.sha256 for file in files])
        with _told_as_of(self._folder):
            self.outgoing.wipe_unheld()

    def drop_outputs(self, attempt_id: str) -> None:
        """Let go of what was collected of an attempt: no outcome will name it, or the one that did is delivered."""
        self.outgoing.release(attempt_id)

    def release(self, attempt_id: str) -> None:
        """Let go of the inputs of an attempt that is over."""
        self._staged.pop(attempt_id, None)
        self._cache.release(attempt_id)

    async def close(self) -> None:
        """End what is under way."""
        await self._cache.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- on a thread -------------------------------------------------------------------------------

    def _collect(self, assignment: AssignAttempt, folder: Path | int, stop: Stop) -> Collected:
        def take(name: str, fd: int, size_bytes: int) -> OutputFile:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) not in rules.known:  # Else it is the cache's.
                content = self.outgoing.take_over(assignment.attempt_id, name, fd, size_bytes, stop)
                if content is not None:
                    return content
            if shortage := self._shortage_of(size_bytes):
                raise CannotCollect(f"output {name!r}: {shortage}")
            return self.outgoing.add(assignment.attempt_id, name, fd, size_bytes, stop)

        try:
            with Tree(folder) as tree:
                rules = self._rules(assignment, tree.owner)
                collected = collect(tree, rules, take)
            self.outgoing.sync()
        except OSError as error:
            raise CannotCollect(f"the outputs cannot be copied: {error.strerror or error}") from error
        return collected

    def _rules(self, assignment: AssignAttempt, owner: int | None) -> Rules:
        staged = self._staged.get(assignment.attempt_id, {})
        # There they hide what they hang on.
        is_covered = assignment.sandbox is SandboxLevel.VERY_STRICT
        statuses = [path.stat() for path in staged.values()]
        return Rules(
            patterns=assignment.outputs,
            inputs=frozenset(staged),
            covered=staged if is_covered else {},
            known=frozenset((status.st_dev, status.st_ino) for status in statuses),
            owner=owner,
            max_bytes=self._settings.max_output_bytes,
        )

    def _shortage_of(self, size_bytes: int) -> str:
        return shortage_for(self._folder, size_bytes, self._reserve_bytes)


@contextmanager
def _told_as_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateFolderError(f"state folder {folder}: {error.strerror or error}") from error
