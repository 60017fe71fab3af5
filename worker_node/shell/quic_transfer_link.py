"""One QUIC stream for files, used from a thread, beside the control link's stream on the same connection.

The loop does the work, since it drives the connection; the thread asks it for one message at a time. To keep both busy
the next message is always being received already, and the last one sent may still be on its way out.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any, Final, TypeVar

from octaskly_wire.errors import LinkLost
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S
from octaskly_wire.messages import FromWorker, ToWorker
from octaskly_wire.vocabulary import LinkPurpose
from worker_node.shell.dialing import Connection
from worker_node.shell.quic_dialer import open_stream
from worker_node.shell.stoppable import Stop
from worker_node.shell.transfer_link import SILENCE_S, Endpoint, Streams

LOOK_S: Final = 1.0
"""How often a thread that waits looks whether the loop still runs: one that has stopped wakes nobody."""

Result = TypeVar("Result")


class QuicTransferLink:
    """A transfer link over a stream of a QUIC connection."""

    def __init__(self, calls: _Calls, connection: Connection) -> None:
        """Take an open stream whose peer is proven."""
        self._calls = calls
        self._connection = connection
        self._sent: Future[None] | None = None
        self._next: Future[ToWorker] = calls.begin(connection.receive())

    def send(self, message: FromWorker) -> None:
        """Send a message; it may still be on its way when this returns, the one before is not."""
        if self._sent is not None:
            self._calls.result(self._sent, SILENCE_S)
        self._sent = self._calls.begin(self._connection.send(message))

    def receive(self, patience_s: float = SILENCE_S) -> ToWorker:
        """Return the next message."""
        message = self._calls.result(self._next, patience_s)
        self._next = self._calls.begin(self._connection.receive())
        return message

    def abort(self) -> None:
        """Make another thread's `send` or `receive` end now."""
        self._calls.end(self._connection.abort)

    def close(self) -> None:
        """End the stream."""
        self._calls.end(self._connection.writer.close)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be received, not even an end."""
        return not self._next.done()


def open_quic_link(endpoint: Endpoint, streams: Streams, stop: Stop) -> QuicTransferLink:
    """Open a stream and prove who we are; raise OSError, WireError or DispatcherRefused. A stop ends it with one."""
    calls = _Calls(streams.loop)
    try:
        stop.wake_by(calls.end)
        opening = calls.begin(_open(endpoint, streams))
        return QuicTransferLink(calls, calls.result(opening, HANDSHAKE_TIMEOUT_S + LOOK_S))
    except BaseException:
        stop.wake_by(None)
        calls.end()
        raise


async def _open(endpoint: Endpoint, streams: Streams) -> Connection:
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        connection = await open_stream(streams.carrier, endpoint.address, endpoint.codec, LinkPurpose.TRANSFER)
        try:
            await connection.authenticate(endpoint.identity, endpoint.boot_id, LinkPurpose.TRANSFER)
        except BaseException:
            connection.abort()
            raise
    return connection


class _Calls:
    """What a thread has asked the loop for. Ended from any thread, it wakes the one that waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._is_over = False
        self._begun: set[Future[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Let the loop begin; raise LinkLost once this has ended, or the loop."""
        with self._lock:
            if self._is_over or self._loop.is_closed():
                work.close()
                raise LinkLost("the transfer link was ended")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        return future

    def result(self, future: Future[Result], patience_s: float) -> Result:
        """Wait for what was begun; raise what it raised, LinkLost when it was ended, or TimeoutError."""
        gives_up_at = time.monotonic() + patience_s
        while not wait([future], timeout=min(LOOK_S, max(0.0, gives_up_at - time.monotonic()))).done:
            if time.monotonic() >= gives_up_at:
                raise TimeoutError("the dispatcher takes too long")
            if not self._loop.is_running():
                raise LinkLost("the worker ends")
        try:
            return future.result()
        except CancelledError:
            raise LinkLost("the transfer link was ended") from None

    def end(self, at_last: Callable[[], object] | None = None) -> None:
        """End what was begun, and let the loop do a last thing; a loop that is closed has ended it all."""
        with self._lock:
            self._is_over = True
        if self._loop.is_closed():
            return
        for future in list(self._begun):
            future.cancel()
        if at_last is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(at_last)
