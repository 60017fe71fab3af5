"""Pump one session: small messages ahead of bulk, bounded queues, an end with a reason."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, NoReturn

from octaskly_wire.errors import WireError
from octaskly_wire.messages import FromWorker, ToWorker
from worker_node.core.outcome import Outcome
from worker_node.shell.dialing import Connection
from worker_node.shell.incoming import Incoming

logger = logging.getLogger(__name__)

MAX_UNSENT_BYTES: Final = 128 << 10
"""In the buffer of the kernel, or of a QUIC stream, where it cannot be overtaken: behind megabytes of output, on a slow
network, a heartbeat would come seconds late."""

MAX_QUEUED: Final = 32_768
"""Messages not yet written. More means that the peer stopped reading: the link is given up, nothing is lost."""

MAX_AT_ONCE: Final = 256
"""Messages in one write; then the kernel shall have them."""


class Link:
    """One live connection; `run` returns when it is over."""

    def __init__(
        self, connection: Connection, on_messages: Callable[[Iterable[ToWorker]], None], leisure_s: Callable[[], float]
    ) -> None:
        """Take an open session; nothing is pumped before `run`.

        `on_messages` is told what came at once; after a message that ended the link there is no further one.
        `leisure_s` tells how long what is to be sent may wait for more.
        """
        self._connection = connection
        self._on_messages = on_messages
        self._leisure_s = leisure_s
        self._control: deque[FromWorker] = deque()
        self._bulk: deque[Iterator[FromWorker]] = deque()
        self._has_work = asyncio.Event()
        self._is_flushed = asyncio.Event()
        self._is_flushed.set()
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[str] = self._loop.create_future()
        _keep_unsent_short(connection.writer)

    def send(self, message: FromWorker) -> None:
        """Send a small message ahead of all bulk: at once where nothing is on its way and nothing may wait for it."""
        self._control.append(message)
        self._wake()

    def send_outcome(self, attempt_id: str, outcome: Outcome) -> None:
        """Queue an outcome; one with much output goes piece by piece, behind all small messages."""
        if outcome.is_bulky:
            self.send_bulk(outcome.messages(attempt_id))
        else:
            self.send(outcome.last_message(attempt_id))

    def send_bulk(self, messages: Iterator[FromWorker]) -> None:
        """Queue messages behind all small ones; each is made when it is about to be written."""
        self._bulk.append(messages)
        self._wake()

    def close(self, reason: str) -> None:
        """End the link."""
        if not self._end.done():
            self._end.set_result(reason)

    async def flush(self) -> None:
        """Wait until all is handed to the kernel, or the link is over."""
        self._end.add_done_callback(lambda _: self._is_flushed.set())
        await self._is_flushed.wait()

    async def run(self) -> str:
        """Pump until the link ends; return why."""
        connection = self._connection
        writing = asyncio.ensure_future(self._write())
        writing.add_done_callback(self._on_writing_ended)
        try:
            await Incoming(connection.writer.transport, self._hear, self.close).start(connection.reader)
            return await asyncio.shield(self._end)
        finally:
            self.close("cancelled")
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            with suppress(OSError):
                await connection.close()

    def _wake(self) -> None:
        if len(self._control) + len(self._bulk) > MAX_QUEUED:
            self.close("the dispatcher does not read")
        if not self._is_flushed.is_set():
            return  # taken along by what is under way
        self._is_flushed.clear()
        if leisure_s := self._leisure_s():
            self._loop.call_later(leisure_s, self._write_gathered)
        else:
            self._write_ahead()
            self._has_work.set()

    def _write_gathered(self) -> None:
        """Write what came meanwhile. Mostly that is all, and nobody need wake up for a rest."""
        if self._end.done():
            return
        self._write_ahead()
        if self._control or self._bulk or self._connection.writer.transport.get_write_buffer_size():
            self._has_work.set()
        else:
            self._is_flushed.set()

    def _write_ahead(self) -> None:
        """Write what is small before `_write` gets to run."""
        if self._control:
            with suppress(ValueError):  # what cannot be told ends the link, as `_write` finds
                self._write_control()

    def _on_writing_ended(self, task: asyncio.Task[NoReturn]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, (OSError, WireError)):
            logger.error("The link failed", exc_info=error)
        self.close(str(error) or type(error).__name__)

    def _hear(self, data: bytes) -> None:
        """Take bytes, and behind the end of the link nothing any more."""
        try:
            self._connection.pending.extend(self._connection.session.feed(data))
            self._on_messages(self._heard())
        except Exception as error:  # noqa: BLE001 - a defect ends the link, not the transport under it
            self._fail(error)

    def _heard(self) -> Iterator[ToWorker]:
        messages = self._connection.pending
        while messages and not self._end.done():
            yield messages.popleft()

    async def _write(self) -> NoReturn:
        writer, session = self._connection.writer, self._connection.session
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            await writer.drain()  # of what was written without waiting
            while self._control or self._bulk:
                if self._control:
                    self._write_control()
                elif (piece := next(self._bulk[0], None)) is not None:
                    writer.write(session.encode(piece))
                else:
                    self._bulk.popleft()
                await writer.drain()
            self._is_flushed.set()

    def _write_control(self) -> None:
        """Write what is small; of much so many as the kernel takes well."""
        session = self._connection.session
        frames = [session.encode(message) for message in islice(self._control, MAX_AT_ONCE)]
        self._connection.writer.write(b"".join(frames))
        for _ in frames:
            self._control.popleft()


def _keep_unsent_short(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it
    if connection is None:
        writer.transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
    elif option is not None:
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT_BYTES)
