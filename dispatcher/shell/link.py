"""One live connection of a worker: pumps bytes through a session, with a bounded outbox."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from dispatcher.shell.direct_reader import DirectReader
from octaskly_wire.errors import LinkLost, MalformedMessage
from octaskly_wire.limits import MAX_CHUNKED_OUTPUT_BYTES
from octaskly_wire.messages import AttemptFinished, CapturedOutput, FromWorker, OutputChunk, ToWorker
from octaskly_wire.session import DispatcherSession

logger = logging.getLogger(__name__)

READ_BYTES: Final = 256 << 10
MAX_OUTBOX_MESSAGES: Final = 20_000
"""A worker that lets this many messages pile up does not read any more; its link is closed."""

MAX_UNSENT_BYTES: Final = 128 << 10
"""In the kernel's buffer of a control link."""

MAX_KEPT_BYTES: Final = MAX_CHUNKED_OUTPUT_BYTES + 1024
"""Kept output of one stream that comes in chunks, with room for the marker line."""

_link_ids = itertools.count(1)


Data = TypeVar("Data", bytes, memoryview)


class WorkerLink:
    """Bytes in, messages out, and the other way round. Closing is idempotent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, transport: str) -> None:
        self.link_id = next(_link_ids)
        self.worker_id = ""
        self.transport = transport
        self.session = DispatcherSession()
        self._reader = reader
        self._direct: DirectReader | None = None
        self._writer = writer
        self._incoming: deque[FromWorker] = deque()
        self._outgoing: deque[ToWorker] = deque()
        self._has_outgoing = asyncio.Event()
        self._is_closing = False
        self._outputs: dict[tuple[str, str], bytearray] = {}

    @property
    def address(self) -> str:
        """Return where the worker is; over QUIC it may move."""
        peer = self._writer.get_extra_info("peername") or ("?",)
        return str(peer[0])

    # --- receiving ---------------------------------------------------------------------------------

    async def receive(self) -> FromWorker:
        """Return the next message; raise LinkLost at the end of the stream, WireError on nonsense."""
        while not self._incoming:
            try:
                self._incoming.extend(await self._receive_more())
            except OSError as error:
                raise LinkLost(str(error)) from error
        return self._incoming.popleft()

    async def _receive_more(self) -> list[FromWorker]:
        if self._direct is None:
            return self.session.feed(_unless_ended(await self._reader.read(READ_BYTES)))
        messages, used_bytes = self.session.cut(_unless_ended(await self._direct.read()))
        self._direct.use(used_bytes)
        return messages

    def read_directly(self) -> None:
        """Receive with less copying from now on; for a link that moves files, before anything of them is on its way."""
        self._direct = DirectReader(self._writer.transport)

    def unread(self, data: bytes) -> None:
        """Take bytes that were read from the connection already; raise WireError on nonsense."""
        self._incoming.extend(self.session.feed(data))

    async def messages(self) -> AsyncIterator[FromWorker]:
        """Yield messages; chunks of output are kept aside until their AttemptFinished takes them."""
        while True:
            # What is here already is taken without a step around the loop's machinery.
            message = self._incoming.popleft() if self._incoming else await self.receive()
            if isinstance(message, OutputChunk):
                self._keep(message)
            else:
                yield message

    def _keep(self, chunk: OutputChunk) -> None:
        if any(attempt_id != chunk.attempt_id for attempt_id, _ in self._outputs):
            # One outcome at a time, so that a worker cannot fill this memory with beginnings.
            raise MalformedMessage(f"chunks of {chunk.attempt_id} amid those of another attempt")
        kept = self._outputs.setdefault((chunk.attempt_id, chunk.stream), bytearray())
        if chunk.offset == 0:
            kept.clear()  # A resent outcome starts over.
        if chunk.offset != len(kept) or len(kept) + len(chunk.data) > MAX_KEPT_BYTES:
            raise MalformedMessage(f"chunk of {chunk.attempt_id} {chunk.stream} at {chunk.offset} does not fit")
        kept += chunk.data

    def take_outputs(self, finished: AttemptFinished) -> tuple[bytes, bytes]:
        """Return stdout and stderr of an outcome, inline or gathered from chunks; raise when bytes are missing."""
        return (
            self._take_output(finished.attempt_id, "stdout", finished.report.stdout),
            self._take_output(finished.attempt_id, "stderr", finished.report.stderr),
        )

    def _take_output(self, attempt_id: str, stream: str, captured: CapturedOutput) -> bytes:
        kept = self._outputs.pop((attempt_id, stream), None) if self._outputs else None
        if captured.data is None and captured.sha256 is not None:
            return b""  # It lies in the blob store.
        data = captured.data if captured.data is not None else bytes(kept or b"")
        if len(data) != captured.kept_bytes:
            raise MalformedMessage(f"{attempt_id} {stream}: {len(data)} bytes came, {captured.kept_bytes} announced")
        return data

    # --- sending -----------------------------------------------------------------------------------

    def send(self, message: ToWorker) -> None:
        """Queue a message. A worker that does not read its messages loses the link."""
        if self._is_closing:
            return
        if len(self._outgoing) >= MAX_OUTBOX_MESSAGES:
            logger.warning(
                "Worker %s does not read its messages, closing its link",
                self.worker_id,
                extra={"event": "worker_not_reading", "worker_id": self.worker_id, "address": self.address},
            )
            self.abort()
            return
        self._outgoing.append(message)
        self._has_outgoing.set()

    async def send_now(self, message: ToWorker) -> None:
        """Write a message, and wait while the worker does not read: what is on its way stays bounded.

        It does not wait for queued messages. Raises LinkLost when the link has ended.
        """
        if self._is_closing:
            raise LinkLost("the link is closed")
        try:
            self._writer.write(self.session.encode(message))
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(str(error)) from error

    def keep_kernel_short(self) -> None:
        """Have the kernel hold little that is not sent yet, where it can.

        What stands there cannot be overtaken: behind a few megabytes of it, on a slow network, an acknowledgement of
        a heartbeat would come seconds late.
        """
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        connection = self._writer.get_extra_info("socket")
        if option is not None and connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT_BYTES)

    def close(self) -> None:
        """Send what is queued, then end the connection."""
        self._is_closing = True
        self._has_outgoing.set()

    def abort(self) -> None:
        """End the connection at once."""
        self._is_closing = True
        self._outgoing.clear()
        self._has_outgoing.set()
        if self._writer.transport is not None:
            self._writer.transport.abort()

    async def pump(self) -> None:
        """Write queued messages until the link closes. Many small messages go out in one write."""
        try:
            while True:
                await self._has_outgoing.wait()
                self._has_outgoing.clear()
                while self._outgoing:
                    batch = bytearray()
                    while self._outgoing and len(batch) < READ_BYTES:
                        batch += self.session.encode(self._outgoing.popleft())
                    self._writer.write(batch)
                    await self._writer.drain()
                if self._is_closing:
                    return
        except OSError as error:
            raise LinkLost(str(error)) from error
        finally:
            self._is_closing = True
            self._writer.close()


def _unless_ended(data: Data) -> Data:
    if not data:
        raise LinkLost("the worker closed the connection")
    return data
