"""The two programs that `benchmarks.transports` starts: a dispatcher's listeners, and a worker that measures what they give.

The dispatcher's end is the real one from the socket to the service, with its queue in memory and contents without a disk; the
worker's end is the real dialers and transfer links. Beside them stands a plain socket that does the same with no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Before anything loads OpenSSL, as both programs do.

from octaskly_wire import identity  # noqa: E402
from octaskly_wire.codec import Codec  # noqa: E402
from octaskly_wire.limits import MAX_CHUNK_BYTES  # noqa: E402
from octaskly_wire.messages import (  # noqa: E402
    AssignAttempt,
    BlobChunk,
    BlobStored,
    FetchBlob,
    Heartbeat,
    HeartbeatAck,
    InputFile,
    SendBlob,
    StoreBlob,
    Vitals,
)
from octaskly_wire.vocabulary import Transport  # noqa: E402
from tests.support import transports  # noqa: E402
from tests.support.scripted_worker import CA, CLUSTER, REGISTER, Dispatcher  # noqa: E402
from tests.unit.dispatcher.engine import make_task  # noqa: E402
from worker_node.config import Address  # noqa: E402
from worker_node.shell import quic_dialer, tcp_dialer  # noqa: E402
from worker_node.shell.dialing import Connection, open_session  # noqa: E402
from worker_node.shell.keyfile import Identity  # noqa: E402
from worker_node.shell.quic_transfer_link import open_quic_link  # noqa: E402
from worker_node.shell.stoppable import Stop  # noqa: E402
from worker_node.shell.transfer_link import Endpoint, Streams, TransferLink, open_tcp_link  # noqa: E402

CONTENT = bytes(2 << 20)
DIGEST = sha256(CONTENT).hexdigest()
HANDSHAKES = 40
ROUND_TRIPS = 300
INTERLEAVED = 100
BULK_S = 2.5
PLAIN_BYTES = 64 << 10
MESSAGE_BYTES = 200
VITALS = Vitals(cpu_percent=0, memory_total_bytes=1, memory_available_bytes=1, disk_free_bytes=1, load_1m=0)
PADDING = ["x" * 36] * 3
"""Attempts of nobody: a heartbeat that names them has the size of an ordinary message."""


# --- the dispatcher's end --------------------------------------------------------------------------


class NoDisk:
    """Contents that cost nothing: one to be fetched, and any to be stored."""

    def open(self, _sha256: str) -> BinaryIO:
        """Return the content."""
        return io.BytesIO(CONTENT)

    def receive(self, sha256: str, _size_bytes: int, _sender: str) -> Taken:
        """Take a content, and forget it."""
        return Taken(sha256)


@dataclass
class Taken:
    """A content on its way to nowhere."""

    sha256: str
    received_bytes: int = 0

    def write(self, data: bytes) -> None:
        """Forget a piece."""

    def finish(self) -> str:
        """Say that all is well."""
        return self.sha256

    def close(self) -> None:
        """Let go."""


async def serve(host: str, folder: Path) -> None:
    """Listen on both transports and plainly, write down where, and stay until the standard input ends."""
    transports.HOST = host
    ends = {}
    async with contextlib.AsyncExitStack() as stack:
        for transport in Transport:
            transports._current = transport  # noqa: SLF001 - what the fixture of tests does
            dispatcher = Dispatcher(NoDisk())  # type: ignore[arg-type]
            dispatcher.store.tasks = [make_task(inputs=(InputFile("in", DIGEST, len(CONTENT)),), outputs=("*",))]
            await stack.enter_async_context(dispatcher.running())
            worker = dispatcher.worker()
            pem = identity.key_to_pem(worker.key).decode()
            ends[transport.value] = {"port": dispatcher.port, "key": pem, "certificate": worker.certificate.hex()}
        plain = await stack.enter_async_context(await asyncio.start_server(_serve_plainly, host, 0, limit=1 << 18))
        ends["plain"] = {"port": plain.sockets[0].getsockname()[1]}
        (folder / "new").write_text(json.dumps(ends | {"ca": CA.hex()}))
        (folder / "new").rename(folder / "ends.json")
        await asyncio.to_thread(sys.stdin.read)


async def _serve_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            what = await reader.readexactly(MESSAGE_BYTES)
            if what[:1] == b"u":
                while what[:1] != b"." and (what := await reader.read(1 << 18)):
                    pass
                return
            while what[:1] == b"d":
                writer.write(bytes(PLAIN_BYTES))
                await writer.drain()
            writer.write(what)
    writer.close()


# --- the worker's end ------------------------------------------------------------------------------


Measured = dict[str, float]
Message = TypeVar("Message")


class Ours:
    """Measures one of our transports."""

    def __init__(self, host: str, ends: dict[str, Any], transport: Transport) -> None:
        end = ends[transport.value]
        self._dial = (tcp_dialer if transport is Transport.TCP else quic_dialer).connect
        self._address = Address(host, end["port"])
        key = identity.key_from_pem(end["key"].encode())
        ca = bytes.fromhex(ends["ca"])
        self._identity = Identity("w1", CLUSTER, bytes.fromhex(end["certificate"]), (ca,), key)

    async def connect(self) -> Connection:
        """Return a session that was bidden welcome."""
        connection, _ = await open_session(self._dial, self._address, self._identity, "b1", Codec.MSGPACK)
        return connection

    async def shake_hands(self) -> None:
        """Connect and leave."""
        connection = await self.connect()
        connection.abort()

    @contextlib.asynccontextmanager
    async def control(self) -> Any:
        """Yield what sends one message and waits for its answer, and what opens a transfer link."""
        connection = await self.connect()
        await connection.send(REGISTER)
        while not isinstance(await connection.receive(), AssignAttempt):
            pass

        async def ask() -> None:
            await connection.send(Heartbeat(1, VITALS, PADDING))
            while not isinstance(await connection.receive(), HeartbeatAck):
                pass

        carrier = connection.carrier
        streams = Streams(carrier, asyncio.get_running_loop()) if carrier else None
        endpoint = Endpoint(self._address, self._identity, "b1", Codec.MSGPACK, streams)
        yield ask, lambda way, until: self._move(endpoint, way, until)
        connection.abort()

    async def _move(self, endpoint: Endpoint, way: str, goes_on: Callable[[], bool]) -> int:
        return await asyncio.to_thread(_move_contents, endpoint, way, goes_on)


def _move_contents(endpoint: Endpoint, way: str, goes_on: Callable[[], bool]) -> int:
    streams = endpoint.streams
    link: TransferLink = open_quic_link(endpoint, streams, Stop()) if streams else open_tcp_link(endpoint, Stop())
    moved = 0
    while goes_on():
        if way == "down":
            link.send(FetchBlob("t1.1", DIGEST, 0))
            received = 0
            while received < len(CONTENT):
                received += len(_expect(link, BlobChunk).data)
        else:
            link.send(StoreBlob("t1.1", DIGEST, len(CONTENT)))
            _expect(link, SendBlob)
            for start in range(0, len(CONTENT), MAX_CHUNK_BYTES):
                link.send(BlobChunk(start, CONTENT[start : start + MAX_CHUNK_BYTES]))
            _expect(link, BlobStored)
        moved += len(CONTENT)
    link.close()
    return moved


def _expect(link: TransferLink, kind: type[Message]) -> Message:
    message = link.receive()
    if not isinstance(message, kind):
        raise SystemExit(f"{message} instead of {kind.__name__}")
    return message


class Plain:
    """Measures a TCP socket without anything on it: what the way itself gives."""

    def __init__(self, host: str, ends: dict[str, Any]) -> None:
        self._address = (host, ends["plain"]["port"])

    async def shake_hands(self) -> None:
        """Connect, say a word, hear one, and leave."""
        async with self.control() as (ask, _):
            await ask()

    @contextlib.asynccontextmanager
    async def control(self) -> Any:
        """Yield what sends one message and waits for its answer, and what moves bytes."""
        reader, writer = await asyncio.open_connection(*self._address)

        async def ask() -> None:
            writer.write(b"p" * MESSAGE_BYTES)
            await reader.readexactly(MESSAGE_BYTES)

        yield ask, self._move
        writer.transport.abort()

    async def _move(self, way: str, goes_on: Callable[[], bool]) -> int:
        reader, writer = await asyncio.open_connection(*self._address, limit=1 << 18)
        writer.write(way[:1].encode() * MESSAGE_BYTES)
        moved = 0
        while goes_on():
            if way == "down":
                moved += len(await reader.read(1 << 18))
            else:
                writer.write(bytes(PLAIN_BYTES))
                await writer.drain()
                moved += PLAIN_BYTES
        writer.transport.abort()
        return moved


async def measure(end: Ours | Plain) -> Measured:
    """Return milliseconds and megabytes a second."""
    measured: Measured = {}
    _note(measured, "handshake", await _times(end.shake_hands, HANDSHAKES), 95)
    async with end.control() as (ask, move):
        await ask()
        _note(measured, "message", await _times(ask, ROUND_TRIPS), 99)
        for way in ("down", "up"):
            began_at = time.monotonic()
            moved = await move(way, lambda began_at=began_at: time.monotonic() - began_at < BULK_S)
            measured[f"bulk {way}"] = moved / (time.monotonic() - began_at) / 1e6
        is_over = False
        moving = asyncio.gather(*(move(way, lambda: not is_over) for way in ("down", "up")))
        _note(measured, "message amid bulk", await _times(ask, INTERLEAVED, pause_s=0.01), 99)
        is_over = True
        await moving
    return measured


async def _times(act: Callable[[], Awaitable[None]], count: int, pause_s: float = 0.0) -> list[float]:
    times_ms = []
    for _ in range(count):
        began_at = time.perf_counter()
        await act()
        times_ms.append((time.perf_counter() - began_at) * 1000)
        await asyncio.sleep(pause_s)
    return times_ms


def _note(measured: Measured, what: str, times_ms: list[float], percentile: int) -> None:
    measured[f"{what} p50"] = statistics.median(times_ms)
    measured[f"{what} p{percentile}"] = statistics.quantiles(times_ms, n=100)[percentile - 1]


def main() -> None:
    """Be the end that the arguments name."""
    role, host, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if role == "serve":
        import uvloop

        uvloop.run(serve(host, folder))
        return
    ends = json.loads((folder / "ends.json").read_text())
    end = Plain(host, ends) if role == "plain" else Ours(host, ends, Transport(role))
    sys.stdout.write(json.dumps(asyncio.run(measure(end))))


if __name__ == "__main__":
    main()
