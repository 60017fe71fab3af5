"""Inputs by their digest, on this machine: fetched once, verified on arrival, kept while there is room.

Theory of operation. A whole content lies at `ab/<digest>`, one that is on its way at `ab/<digest>.part`, which a
later try goes on from. Everything but the threads that fetch runs on the loop, so there is no lock. Who holds a
content keeps it from being evicted; the first to want one that is not here starts the fetch and all others wait for
the same. `cached_files` says how a file is known to be unchanged.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from octaskly_wire.errors import WireError
from octaskly_wire.messages import InputFile
from worker_node.core.backoff import reconnect_delay_s
from worker_node.shell.cached_files import CachedFiles, Incoming, WrongContent
from worker_node.shell.proving import DispatcherRefused
from worker_node.shell.stoppable import Stop, on_thread
from worker_node.shell.transfers import Refused, Source
from worker_node.shell.vitals import shortage_for

logger = logging.getLogger(__name__)

GIVE_UP_S: Final = 600.0
"""Without a byte of progress, after which an attempt waits no longer for an input."""


class CannotFetch(Exception):
    """A content cannot be had; the text says why."""


class _FetchEnded(Exception):
    """The fetch that was waited for was given up by all others."""


@dataclass
class _Entry:
    """A content that is here, at least in part."""

    size_bytes: int
    holders: set[str] = field(default_factory=set)


@dataclass
class _Fetch:
    """A content on its way and the attempts that wait for it, first come first."""

    file: InputFile
    waiters: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    def fail(self, attempt_id: str, reason: str) -> None:
        """Tell one waiter that it waits in vain."""
        waiter = self.waiters.pop(attempt_id)
        if not waiter.done():
            waiter.set_exception(CannotFetch(reason))

    def fail_all(self, reason: str) -> None:
        """Tell all waiters."""
        for attempt_id in list(self.waiters):
            self.fail(attempt_id, reason)


class BlobCache:
    """One worker's cache of inputs."""

    def __init__(self, folder: Path, max_bytes: int, reserve_bytes: int, source: Source) -> None:
        """Take over what an earlier life left; raises OSError."""
        self._files = CachedFiles(folder)
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._source = source
        # Least recently used first.
        self._entries: OrderedDict[str, _Entry] = OrderedDict(
            (digest, _Entry(size_bytes)) for digest, size_bytes in self._files.load()
        )
        self._held: dict[str, set[str]] = {}
        """Digests by attempt."""
        self._fetches: dict[str, _Fetch] = {}
        self.total_bytes = sum(entry.size_bytes for entry in self._entries.values())
        """What lies here."""
        self._evict()

    async def hold(self, attempt_id: str, file: InputFile) -> Path:
        """Return where a content lies, for this attempt to use until `release`; raise CannotFetch."""
        self._entries.setdefault(file.sha256, _Entry(0)).holders.add(attempt_id)
        self._held.setdefault(attempt_id, set()).add(file.sha256)
        self._entries.move_to_end(file.sha256)
        if not self._files.is_whole(file.sha256, file.size_bytes):
            await self._arrival(attempt_id, file)
        else:
            self._files.touch(file.sha256)
        return self._files.path_of(file.sha256)

    def release(self, attempt_id: str) -> None:
        """Let go of all that an attempt holds."""
        for digest in self._held.pop(attempt_id, ()):
            if entry := self._entries.get(digest):
                entry.holders.discard(attempt_id)
        self._evict()

    async def close(self) -> None:
        """End all fetches; what came so far is kept."""
        tasks = [fetch.task for fetch in self._fetches.values() if fetch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- fetching ----------------------------------------------------------------------------------

    async def _arrival(self, attempt_id: str, file: InputFile) -> None:
        """Wait until a content is here; the last one to give up waiting ends the fetch."""
        while True:
            fetch = self._fetches.get(file.sha256)
            if fetch is None:
                fetch = self._fetches[file.sha256] = _Fetch(file)
                fetch.task = asyncio.get_running_loop().create_task(self._fetch(fetch))
            waiter = fetch.waiters.get(attempt_id)
            if waiter is None:
                waiter = fetch.waiters[attempt_id] = asyncio.get_running_loop().create_future()
            try:
                await asyncio.shield(waiter)
            except _FetchEnded:
                continue
            except asyncio.CancelledError:
                fetch.waiters.pop(attempt_id, None)
                if not fetch.waiters and fetch.task is not None:
                    fetch.task.cancel()
                    await asyncio.wait([fetch.task])
                raise
            return

    async def _fetch(self, fetch: _Fetch) -> None:
        try:
            await self._try_until_here(fetch)
        except Exception:
            logger.exception("An input could not be fetched")
            fetch.fail_all("the worker failed to fetch it")
        finally:
            # Who comes from here on starts anew.
            del self._fetches[fetch.file.sha256]
            for waiter in fetch.waiters.values():
                if not waiter.done():
                    waiter.set_exception(_FetchEnded)

    async def _try_until_here(self, fetch: _Fetch) -> None:
        """Fetch with pauses between the tries, in the name of whoever waits; tell each waiter how it went."""
        file, loop = fetch.file, asyncio.get_running_loop()
        failures, was_wrong = 0, False
        best_bytes, progress_at = self._files.part_bytes(file.sha256), loop.time()
        while fetch.waiters:
            attempt_id = next(iter(fetch.waiters))
            try:
                self._make_room(file)
                await on_thread(partial(self._download, attempt_id, file), self._source.pool)
            except Refused as refusal:
                reason = str(refusal)
                if refusal.is_final:
                    # Another attempt may have a right to it that this one has lost.
                    fetch.fail(attempt_id, reason)
                    continue
            except WrongContent as error:
                reason = str(error)
                if was_wrong:
                    fetch.fail_all(reason)
                was_wrong, best_bytes = True, 0
            except (WireError, DispatcherRefused, OSError) as error:
                reason = str(error) or type(error).__name__
                if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
                    fetch.fail_all(f"cannot be written here: {reason}")
            except CannotFetch as error:
                fetch.fail_all(str(error))
            else:
                for waiter in fetch.waiters.values():
                    if not waiter.done():
                        waiter.set_result(None)
                return
            finally:
                part_bytes = self._files.part_bytes(file.sha256)
                self._note_size(file.sha256, part_bytes)
            if part_bytes > best_bytes:
                best_bytes, progress_at, failures = part_bytes, loop.time(), 0
            if loop.time() - progress_at > GIVE_UP_S:
                fetch.fail_all(f"no progress for {GIVE_UP_S / 60:.0f} minutes: {reason}")
            if fetch.waiters:
                logger.debug("Content %s is not here yet: %s", file.sha256, reason)
                await asyncio.sleep(reconnect_delay_s(failures, random.random()))  # noqa: S311 - spreads load
                failures += 1

    def _download(self, attempt_id: str, file: InputFile, stop: Stop) -> None:
        """Fetch the rest of a content and put it in its place. On a thread."""
        with Incoming(self._files, file, stop) as incoming:
            if incoming.offset < file.size_bytes:
                self._source.fetch(attempt_id, file, incoming.offset, incoming.take, stop)
            incoming.finish()

    # --- room --------------------------------------------------------------------------------------

    def _make_room(self, file: InputFile) -> None:
        """Evict what nobody holds until a content fits on the disk; raise CannotFetch when it does not."""
        missing = file.size_bytes - self._files.part_bytes(file.sha256)
        # What others fetch now will be there, too.
        on_their_way = sum(
            fetch.file.size_bytes - self._files.part_bytes(digest)
            for digest, fetch in self._fetches.items()
            if digest != file.sha256
        )
        while shortage := shortage_for(self._files.folder, missing + on_their_way, self._reserve_bytes):
            if not self._evict_one():
                raise CannotFetch(shortage)

    def _note_size(self, digest: str, part_bytes: int) -> None:
        if entry := self._entries.get(digest):
            self.total_bytes -= entry.size_bytes
            entry.size_bytes = part_bytes or self._files.whole_bytes(digest)
            self.total_bytes += entry.size_bytes
        self._evict()

    def _evict(self) -> None:
        while self.total_bytes > self._max_bytes and self._evict_one():
            continue

    def _evict_one(self) -> bool:
        """Remove what was not used for longest and nobody holds; return whether there was such."""
        for digest, entry in self._entries.items():
            if not entry.holders and digest not in self._fetches:
                del self._entries[digest]
                self.total_bytes -= entry.size_bytes
                self._files.remove(digest)
                return True
        return False
