"""Reading TLS, or a stream of QUIC, straight into one buffer, on both kinds of loop: no byte is lost, and the sender waits for the reader."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime

import pytest

from dispatcher.shell.direct_reader import BUFFER_BYTES, DirectReader
from octaskly_wire import identity
from octaskly_wire.limits import MAX_FRAME_BYTES
from octaskly_wire.vocabulary import Transport
from tests.support import transports

pytestmark = pytest.mark.usefixtures("transport")

CLUSTER = "direct"
DATA = os.urandom(6 << 20)
PATIENCE_S = 60.0


def credentials():
    """Return what a server proves itself with."""
    now = datetime.now(UTC)
    ca, ca_key = identity.make_ca(CLUSTER, now)
    key = identity.new_key()
    leaf = identity.issue_dispatcher_certificate(ca, ca_key, CLUSTER, key.public_key(), now)
    return transports.Credentials(ca, leaf, key)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request, transport):
    """Return a function that plays both ends of a connection and returns what the server's end returns."""
    run = asyncio.run if request.param == "asyncio" else pytest.importorskip("uvloop").run
    own = credentials()

    async def main(serve, speak):
        serving = asyncio.get_running_loop().create_future()

        async def connected(greeted, writer):
            await greeted.readexactly(1)  # A stream of QUIC is not there before something comes on it.
            transports.trust(writer)
            reader = DirectReader(writer.transport)
            writer.write(b"!")  # Only now may the other end speak, as behind a Welcome.
            serving.set_result((asyncio.ensure_future(serve(reader, writer)), writer))

        async with asyncio.timeout(PATIENCE_S):
            server = await transports.serve(own, connected)
            stream = await transports.dial(server.port, identity.dispatcher_server_name(CLUSTER), own.ca)
            stream.writer.write(b"?")
            await stream.reader.readexactly(1)
            await speak(stream.reader, stream.writer)
            served, server_writer = await serving
            result = await served
            stream.close()
            server_writer.close()
            await server.close()
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


def test_what_nobody_reads_waits_with_its_sender(play, transport):
    """And all of it is there once somebody does."""
    times = 8 if transport is Transport.TCP else 1
    may_read = asyncio.Event()

    async def serve(reader, _):
        await may_read.wait()
        count = 0
        while count < times * len(DATA):
            data = await reader.read()
            count += len(data)
            reader.use(len(data))
        return count

    async def speak(_, writer):
        sending = asyncio.ensure_future(_send(writer, times))
        assert not (await asyncio.wait([sending], timeout=0.3))[0]
        may_read.set()
        await sending

    assert play(serve, speak) == times * len(DATA)


def test_the_streams_writer_goes_on(play, transport):
    """It waits for room as before, which it hears of through the reader."""
    times = 4 if transport is Transport.TCP else 1

    async def serve(reader, writer):
        reader.use(len(await reader.read()))
        await _send(writer, times)

    async def speak(reader, writer):
        writer.write(b"go")
        assert await reader.readexactly(times * len(DATA)) == DATA * times

    play(serve, speak)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_the_end_of_the_connection_ends_the_reading(play, way):
    """With nothing, or an OSError; and it does so again."""
    has_come = asyncio.Event()

    async def serve(reader, _):
        reader.use(len(await reader.read()))
        has_come.set()
        for _ in range(2):
            try:
                assert not await reader.read()
            except OSError:
                continue
        return "ended"

    async def speak(_, writer):
        writer.write(b"x")
        await has_come.wait()
        writer.close() if way == "close" else writer.transport.abort()

    assert play(serve, speak) == "ended"


async def _send(writer, times):
    for _ in range(times):
        writer.write(DATA)
        await writer.drain()
