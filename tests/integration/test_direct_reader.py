"""Reading TLS straight into one buffer, on both kinds of loop: no byte is lost, and the sender waits for the reader."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime

import pytest

from dispatcher.shell.direct_reader import BUFFER_BYTES, DirectReader
from octaskly_wire import identity, tls
from octaskly_wire.limits import MAX_FRAME_BYTES

CLUSTER = "direct"
DATA = os.urandom(6 << 20)


def contexts():
    """Return the TLS contexts of a server and a client that trusts it."""
    now = datetime.now(UTC)
    ca, ca_key = identity.make_ca(CLUSTER, now)
    key = identity.new_key()
    leaf = identity.issue_dispatcher_certificate(ca, ca_key, CLUSTER, key.public_key(), now)
    return tls.server_context(ca, leaf, key), tls.client_context(ca, None, None)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request):
    """Return a function that plays both ends of a connection and returns what the server's end returns."""
    run = asyncio.run if request.param == "asyncio" else pytest.importorskip("uvloop").run
    server_tls, client_tls = contexts()

    async def main(serve, speak):
        serving = asyncio.get_running_loop().create_future()

        async def connected(_, writer):
            reader = DirectReader(writer.transport)
            writer.write(b"!")  # Only now may the other end speak, as behind a Welcome.
            serving.set_result((asyncio.ensure_future(serve(reader, writer)), writer))

        async with asyncio.timeout(20), await asyncio.start_server(connected, "127.0.0.1", 0, ssl=server_tls) as server:
            port = server.sockets[0].getsockname()[1]
            name = identity.dispatcher_server_name(CLUSTER)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls, server_hostname=name)
            await reader.readexactly(1)
            await speak(reader, writer)
            served, server_writer = await serving
            result = await served
            writer.close()
            server_writer.close()
            return result

    return lambda serve, speak: run(main(serve, speak))


@pytest.mark.parametrize("most_left", [0, 10, MAX_FRAME_BYTES - 1])
def test_every_byte_comes_once_and_in_order(play, most_left):
    """However the stream is cut, and however much is left for later each time."""

    async def serve(reader, _):
        received = bytearray()
        left = 0
        while data := await reader.read():
            assert left < len(data) <= BUFFER_BYTES
            left = min(len(data), random.randint(0, most_left))
            received += data[: len(data) - left]
            reader.use(len(data) - left)
        return bytes(received), left

    async def speak(_, writer):
        rest = memoryview(DATA)
        while rest:
            size = random.choice([1, 100, 16_384, 300_000])
            writer.write(rest[:size])
            rest = rest[size:]
            await writer.drain()
        writer.close()

    received, left = play(serve, speak)
    assert received == DATA[: len(DATA) - left]


def test_what_nobody_reads_waits_with_its_sender(play):
    """And all of it is there once somebody does."""
    may_read = asyncio.Event()

    async def serve(reader, _):
        await may_read.wait()
        count = 0
        while count < 8 * len(DATA):
            data = await reader.read()
            count += len(data)
            reader.use(len(data))
        return count

    async def speak(_, writer):
        sending = asyncio.ensure_future(_send(writer, 8))
        assert not (await asyncio.wait([sending], timeout=0.3))[0]
        may_read.set()
        await sending

    assert play(serve, speak) == 8 * len(DATA)


def test_the_streams_writer_goes_on(play):
    """It waits for room as before, which it hears of through the reader."""

    async def serve(reader, writer):
        reader.use(len(await reader.read()))
        await _send(writer, 4)

    async def speak(reader, writer):
        writer.write(b"go")
        assert await reader.readexactly(4 * len(DATA)) == DATA * 4

    play(serve, speak)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_the_end_of_the_connection_ends_the_reading(play, way):
    """With nothing, or an OSError; and it does so again."""

    async def serve(reader, _):
        reader.use(len(await reader.read()))
        for _ in range(2):
            try:
                assert not await reader.read()
            except OSError:
                continue
        return "ended"

    async def speak(_, writer):
        writer.write(b"x")
        await writer.drain()
        writer.close() if way == "close" else writer.transport.abort()

    assert play(serve, speak) == "ended"


async def _send(writer, times):
    for _ in range(times):
        writer.write(DATA)
        await writer.drain()
