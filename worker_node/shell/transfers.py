"""Fetch and store contents over transfer links: a few at once each way, each link used again while it is warm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, Final, Protocol

from octaskly_wire.errors import LinkLost, UnexpectedMessage
from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import (
    BlobChunk,
    BlobStored,
    FetchBlob,
    InputFile,
    OutputFile,
    SendBlob,
    StoreBlob,
    ToWorker,
    TransferRefused,
)
from worker_node.shell.proving import expected
from worker_node.shell.quic_transfer_link import open_quic_link
from worker_node.shell.stoppable import Stop
from worker_node.shell.transfer_link import Endpoint, TransferLink, open_tcp_link

FETCHES_AT_ONCE: Final = 3
STORES_AT_ONCE: Final = 2
"""Links, and threads that use them. Each way has its own: no input of a task waits behind the outputs of others."""

IDLE_S: Final = 30.0
"""How long a link that nobody uses is kept."""

VERIFY_S: Final = 600.0
"""How long the dispatcher may take to read what it has of a content, or to bring it to its disk."""


class Refused(Exception):
    """The dispatcher does not move this content; the text says why. With `is_final` a retry cannot help."""

    def __init__(self, refusal: TransferRefused) -> None:
        """Keep the answer."""
        super().__init__(refusal.detail)
        self.is_final: Final = refusal.is_final


class Source(Protocol):
    """Where contents come from."""

    @property
    def pool(self) -> Executor:
        """Return the threads that `fetch` may hold up."""

    def fetch(self, attempt_id: str, file: InputFile, offset: int, take: Callable[[bytes], None], stop: Stop) -> None:
        """Give the content from an offset to its end, piece by piece; raise what tells why not."""


class Transfers:
    """One worker's transfer links. `fetch` and `store` block; they run on threads of `pool` and `store_pool`."""

    def __init__(self) -> None:
        """Begin without a place to connect to."""
        self.pool: Final[Executor] = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="octaskly-fetch")
        self.store_pool: Final[Executor] = ThreadPoolExecutor(STORES_AT_ONCE, thread_name_prefix="octaskly-store")
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._idle: list[tuple[float, TransferLink]] = []
        self._busy: set[TransferLink] = set()

    def use(self, endpoint: Endpoint | None) -> None:
        """Connect there from now on; None while no link to the dispatcher stands. What is under way goes on."""
        with self._lock:
            self._endpoint = endpoint
            idle, self._idle = self._idle, []
        for _, link in idle:
            link.close()

    def close(self) -> None:
        """End all links, whatever they are at, and the threads."""
        self.use(None)
        with self._lock:
            for link in self._busy:
                link.abort()
        for pool in (self.pool, self.store_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def fetch(self, attempt_id: str, file: InputFile, offset: int, take: Callable[[bytes], None], stop: Stop) -> None:
        """Give a content from an offset to its end to `take`; raise OSError, WireError or Refused."""
        with self._link(stop) as link:
            link.send(FetchBlob(attempt_id, file.sha256, offset))
            while offset < file.size_bytes:
                chunk = expected(_unrefused(link.receive()), BlobChunk)
                if chunk.offset != offset or offset + len(chunk.data) > file.size_bytes:
                    raise UnexpectedMessage(f"{len(chunk.data)} bytes at {chunk.offset}, wanted from {offset}")
                stop.check()
                take(chunk.data)
                offset += len(chunk.data)

    def store(self, attempt_id: str, file: OutputFile, content: BinaryIO, stop: Stop) -> None:
        """Send what the dispatcher lacks of a content, and return when it has it for good."""
        with self._link(stop) as link:
            link.send(StoreBlob(attempt_id, file.sha256, file.size_bytes))
            offset = expected(_unrefused(link.receive(VERIFY_S)), SendBlob).offset
            content.seek(offset)
            while offset < file.size_bytes:
                stop.check()
                data = content.read(min(MAX_CHUNK_BYTES, file.size_bytes - offset))
                if not data:
                    raise OSError(0, f"the content ends at {offset} of {file.size_bytes} bytes")
                link.send(BlobChunk(offset, data))
                offset += len(data)
                if not link.is_quiet:
                    break  # a refusal, or the end
            stored = expected(_unrefused(link.receive(VERIFY_S)), BlobStored)
            if stored.sha256 != file.sha256 or offset < file.size_bytes:
                raise UnexpectedMessage("another content was stored")

    @contextmanager
    def _link(self, stop: Stop) -> Iterator[TransferLink]:
        """Lend a link; it is kept when all went well."""
        link = self._warm_link() or self._new_link(stop)
        with self._lock:
            self._busy.add(link)
        is_well = False
        try:
            stop.wake_by(link.abort)
            yield link
            is_well = True
        finally:
            stop.wake_by(None)
            with self._lock:
                self._busy.discard(link)
                is_kept = is_well and self._endpoint is not None
                if is_kept:
                    self._idle.append((time.monotonic(), link))
            if not is_kept:
                link.close()

    def _warm_link(self) -> TransferLink | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, link = self._idle.pop()
            # One that has something to say without being asked is over.
            if time.monotonic() - since < IDLE_S and link.is_quiet:
                return link
            link.close()

    def _new_link(self, stop: Stop) -> TransferLink:
        endpoint = self._endpoint
        if endpoint is None:
            raise LinkLost("there is no link to the dispatcher")
        return open_quic_link(endpoint, endpoint.streams, stop) if endpoint.streams else open_tcp_link(endpoint, stop)


def _unrefused(message: ToWorker) -> ToWorker:
    if isinstance(message, TransferRefused):
        raise Refused(message)
    return message
