"""Serves a link for transfers: sends contents to a worker and takes them from it, one request at a time.

Theory of operation. The loop moves bytes between socket and memory and does nothing else. A pool of threads reads,
hashes, writes and syncs the files, one batch ahead of the socket or behind it. Nothing queues: a batch is sent when
the socket took the one before, and taken when the thread wrote the one before. So each link holds a few megabytes,
whatever the size of the content, and other work of the loop waits for one batch at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, Final, TypeVar

from dispatcher.ports import BlobRefused, Blobs, IncomingBlob
from dispatcher.shell.file_lane import FileLane
from dispatcher.shell.handshake import Proven, Turned
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.transfer_roster import TransferRoster
from octaskly_wire.errors import MalformedMessage, UnexpectedMessage
from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import (
    BlobChunk,
    BlobStored,
    FetchBlob,
    Refused,
    SendBlob,
    StoreBlob,
    ToWorker,
    TransferRefused,
)
from octaskly_wire.vocabulary import RefusalCode

logger = logging.getLogger(__name__)

IDLE_S: Final = 60.0
"""A link on which nothing moves for so long is closed, amid a content too: the worker goes on over another."""

BATCH_CHUNKS: Final = 4
"""One call into a thread for so many chunks, a megabyte."""

THREADS: Final = 8

R = TypeVar("R")


class TransferServer:
    """Serves all links for transfers."""

    def __init__(self, roster: TransferRoster, blobs: Blobs) -> None:
        self._roster = roster
        self._blobs = blobs
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="octaskly-blobs")

    async def stop(self) -> None:
        """Wait for the last calls on files; the links must have ended."""
        await asyncio.to_thread(self._pool.shutdown)

    async def serve(self, link: WorkerLink, proven: Proven) -> None:
        """Answer a worker's requests until its link ends; raises Turned, LinkLost and other WireErrors."""
        hello = proven.hello
        if objection := self._roster.objection_to_link(hello.worker_id, hello.boot_id):
            logger.warning(
                "Refused a link for transfers to %s: %s",
                hello.worker_id,
                objection,
                extra={"event": "transfer_refused", "worker_id": hello.worker_id, "detail": objection},
            )
            link.send(Refused(code=RefusalCode.UNAVAILABLE, detail=objection, is_final=False))
            raise Turned(objection)
        link.worker_id = hello.worker_id
        link.read_directly()
        with self._roster.entered(link):
            await self._answer_all(link)

    async def _answer_all(self, link: WorkerLink) -> None:
        is_rest_expected = False
        while True:
            request = await _in_time(link, link.receive())
            if isinstance(request, FetchBlob):
                await self._give(link, request)
                is_rest_expected = False
            elif isinstance(request, StoreBlob):
                is_rest_expected = not await self._take(link, request)
            elif not is_rest_expected:  # Else it was on its way already when its content was refused.
                raise UnexpectedMessage(f"{type(request).__name__} that no request announced")

    async def _refuse(self, link: WorkerLink, detail: str, *, is_final: bool) -> None:
        level = logging.WARNING if is_final else logging.INFO  # The latter comes again with each try.
        logger.log(level, "Refused a transfer of worker %s: %s", link.worker_id, detail)
        await _send(link, TransferRefused(detail=detail[:4096], is_final=is_final))

    # --- to the worker -----------------------------------------------------------------------------

    async def _give(self, link: WorkerLink, request: FetchBlob) -> None:
        objection = self._objection_to_fetch(link, request)
        if objection is not None:
            await self._refuse(link, objection, is_final=True)
            return
        try:
            lane = await FileLane.opened(self._pool, lambda: _open_at(self._blobs, request))
        except FileNotFoundError:
            await self._refuse(link, f"the content {request.sha256} is not stored here any more", is_final=True)
            return
        except (BlobRefused, OSError) as error:
            await self._refuse(link, _words(error), is_final=_is_final(error))
            return
        try:
            await self._send_content(link, request, lane)
        finally:
            await lane.close()

    async def _send_content(self, link: WorkerLink, request: FetchBlob, lane: FileLane[BinaryIO]) -> None:
        offset = request.offset
        reading = lane.start(_read_batch)
        while True:
            try:
                batch = await reading
            except OSError as error:
                await self._refuse(link, _words(error), is_final=False)
                return
            if not batch:
                return
            reading = lane.start(_read_batch)
            for data in batch:
                await _send(link, BlobChunk(offset=offset, data=data))
                offset += len(data)
            if objection := self._objection_to_fetch(link, request):
                await self._refuse(link, objection, is_final=True)
                return

    def _objection_to_fetch(self, link: WorkerLink, request: FetchBlob) -> str | None:
        return self._roster.objection_to_fetch(link.worker_id, request.attempt_id, request.sha256)

    # --- from the worker ---------------------------------------------------------------------------

    async def _take(self, link: WorkerLink, request: StoreBlob) -> bool:
        """Take a content; return False when it was refused while the worker may still be sending."""
        objection = self._roster.objection_to_store(link.worker_id, request.attempt_id)
        if objection is not None:
            await self._refuse(link, objection, is_final=True)
            return True
        try:
            lane = await FileLane.opened(
                self._pool, lambda: self._blobs.receive(request.sha256, request.size_bytes, link.worker_id)
            )
        except (BlobRefused, OSError) as error:
            await self._refuse(link, _words(error), is_final=_is_final(error))
            return True
        refusal: Exception | None = None
        try:
            await _send(link, SendBlob(offset=lane.file.received_bytes))
            await self._receive_content(link, request, lane)
            await lane.start(lambda incoming: incoming.finish())
        except (BlobRefused, OSError) as error:
            refusal = error
        finally:
            await lane.close()
        # Only now, when the next try finds what was kept of this one.
        if refusal is not None:
            await self._refuse(link, _words(refusal), is_final=_is_final(refusal))
            return False
        await _send(link, BlobStored(sha256=request.sha256))
        return True

    async def _receive_content(self, link: WorkerLink, request: StoreBlob, lane: FileLane[IncomingBlob]) -> None:
        """Write what comes up to the announced size; raises BlobRefused when the rest is not wanted any more."""
        offset = lane.file.received_bytes
        writing: asyncio.Future[None] | None = None
        while offset < request.size_bytes:
            batch: list[bytes] = []
            while offset < request.size_bytes and len(batch) < BATCH_CHUNKS:
                chunk = await _in_time(link, link.receive())
                if not isinstance(chunk, BlobChunk):
                    raise UnexpectedMessage(f"{type(chunk).__name__} amid a content")
                if chunk.offset != offset or offset + len(chunk.data) > request.size_bytes:
                    raise MalformedMessage(f"a chunk at {chunk.offset}, where {offset} was due")
                offset += len(chunk.data)
                batch.append(chunk.data)
            if writing is not None:
                await writing
            if objection := self._roster.objection_to_store(link.worker_id, request.attempt_id):
                raise BlobRefused(objection)
            writing = lane.start(partial(_write_batch, batch))
        if writing is not None:
            await writing


async def _in_time(link: WorkerLink, moving: Awaitable[R]) -> R:
    # A timer, and no `asyncio.timeout`: for each chunk that would be a tenth of all that the loop does.
    timer = asyncio.get_running_loop().call_later(IDLE_S, _give_up, link)
    try:
        return await moving
    finally:
        timer.cancel()


def _give_up(link: WorkerLink) -> None:
    logger.info("Closed a link for transfers of %s: idle for %g s", link.worker_id, IDLE_S)
    link.abort()  # What it has not read it never will.


async def _send(link: WorkerLink, message: ToWorker) -> None:
    await _in_time(link, link.send_now(message))


def _open_at(blobs: Blobs, request: FetchBlob) -> BinaryIO:
    with contextlib.ExitStack() as unless_fine:
        file = unless_fine.enter_context(blobs.open(request.sha256))
        size_bytes = file.seek(0, os.SEEK_END)
        if request.offset > size_bytes:
            raise BlobRefused(f"the content {request.sha256} ends at {size_bytes}, before {request.offset}")
        file.seek(request.offset)
        unless_fine.pop_all()
    return file


def _read_batch(file: BinaryIO) -> list[bytes]:
    batch: list[bytes] = []
    while len(batch) < BATCH_CHUNKS and (data := file.read(MAX_CHUNK_BYTES)):
        batch.append(data)
    return batch


def _write_batch(batch: list[bytes], incoming: IncomingBlob) -> None:
    for data in batch:
        incoming.write(data)


def _words(error: Exception) -> str:
    # Of an OSError without the path: it is nobody's business on another machine.
    return f"the dispatcher's disk failed: {error.strerror}" if isinstance(error, OSError) else str(error)


def _is_final(error: Exception) -> bool:
    return isinstance(error, BlobRefused) and error.is_final
