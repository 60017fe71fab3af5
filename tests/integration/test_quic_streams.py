"""Streams of QUIC between our two ends: as asyncio has them, in both directions, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from aioquic.tls import Epoch

from octaskly_quic import credited_connection
from octaskly_quic.credit import MAX_STREAMS, STREAM_WINDOW_BYTES, UNTRUSTED_WINDOW_BYTES
from octaskly_quic.live_connection import READ_BYTES
from octaskly_quic.stream_transport import HIGH_WATER_BYTES
from tests.support.quic_ends import dialled, echo, serving

STALL_S = 0.4
"""The next few kilobytes take less on loopback; who still waits has been held up."""

ROOM = 2 * READ_BYTES + HIGH_WATER_BYTES + (64 << 10)
"""What a stream reader holds before it rests, what a writer holds before it waits, and one write."""


@pytest.fixture(params=["asyncio", "uvloop", "without readers"])
def run(request, monkeypatch):
    """Return what runs a coroutine, on each kind of loop; that of Windows cannot watch sockets."""
    if request.param == "uvloop":
        return pytest.importorskip("uvloop").run

    def refuse(*_):
        raise NotImplementedError

    if request.param == "without readers":
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", refuse)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "remove_reader", refuse)
    return asyncio.run


def test_what_is_written_comes_back_and_ends(run):
    """A stream carries bytes in both directions; its end in one direction leaves the other open."""
    data = os.urandom(700_000)

    async def main():
        async with serving(echo) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(data)
            writer.write_eof()
            assert await reader.read(-1) == data
            writer.close()
            await writer.wait_closed()

    run(main())


def test_keys_are_renewed_while_bytes_flow(monkeypatch):
    """No key protects more packets than it may, in either direction, and nobody notices."""
    monkeypatch.setattr(credited_connection, "PACKETS_A_KEY", 60)
    data = os.urandom(300_000)

    async def main():
        phases = set()
        async with serving(echo) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(data)
            writer.write_eof()
            received = bytearray()
            while piece := await reader.read(5000):
                received += piece
                phases.add(client._quic._cryptos[Epoch.ONE_RTT].key_phase)
            assert received == data
            assert phases == {0, 1}
            writer.close()

    asyncio.run(main())


def test_a_reset_ends_one_stream_and_not_its_neighbours():
    """An aborted stream is an error at the other end, and the streams beside it go on."""
    ends = asyncio.Queue()

    async def serve(reader, writer):
        writer.transport.trust()
        await ends.put("begun")
        try:
            await ends.put(await reader.read(-1))
        except OSError as error:
            await ends.put(error)
        writer.close()

    async def main():
        async with serving(serve) as listening, dialled(listening.port) as client:
            (_, doomed), (_, other) = await client.open_stream(), await client.open_stream()
            doomed.write(b"x")
            await ends.get()
            other.write(b"good")
            await ends.get()
            doomed.transport.abort()
            assert isinstance(await ends.get(), ConnectionResetError)
            other.write_eof()
            assert await ends.get() == b"good"
            await doomed.wait_closed()

    asyncio.run(main())


def test_a_closed_stream_takes_no_more_and_fails_the_writer():
    """Who writes to a stream that its reader has closed learns of it."""

    async def serve(reader, writer):
        await reader.read(1)
        writer.close()

    async def main():
        async with serving(serve) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(b"x")
            assert await reader.read(-1) == b""
            writer.write(b"more")
            with pytest.raises(ConnectionResetError):
                await writer.drain()

    asyncio.run(main())


@pytest.mark.parametrize("is_orderly", [True, False])
def test_the_end_of_a_connection_ends_its_streams(is_orderly):
    """What was written before an orderly end arrives; either way nobody waits on a stream of it."""

    async def serve(reader, writer):
        writer.write(b"last words")
        await reader.read(1)
        (writer.get_extra_info("quic").close if is_orderly else writer.get_extra_info("quic").abort)()

    async def main():
        async with serving(serve) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(b"x")
            said = await reader.read(-1)
            assert not is_orderly or said == b"last words"
            await client.wait_closed()
            with pytest.raises(ConnectionError):
                await client.open_stream()

    asyncio.run(main())


# --- bounds ----------------------------------------------------------------------------------------


async def push_until_held(writer):
    """Write up to eight megabytes; return how much was taken when the writer has been held up."""
    written = 0
    with contextlib.suppress(TimeoutError):
        while written < 8 << 20:
            writer.write(bytes(64 << 10))
            written += 64 << 10
            async with asyncio.timeout(STALL_S):
                await writer.drain()
    return written


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_reader_who_rests_bounds_the_sender(sender):
    """Nobody reads: the sender may send one window; once somebody reads, all of it comes, and more."""
    results = asyncio.Queue()

    async def push(_, writer):
        written = await push_until_held(writer)
        await results.put(written)
        writer.write(bytes(3 << 20))
        writer.write_eof()
        return written + (3 << 20)

    async def rest(reader, _):
        await results.get()
        received = 0
        while data := await reader.read(READ_BYTES):
            received += len(data)
        return received

    at_client, at_server = (push, rest) if sender == "client" else (rest, push)

    async def main():
        served = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            writer.transport.trust()
            await reader.readexactly(1)
            served.set_result(await at_server(reader, writer))
            writer.close()

        async with serving(serve) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(b"!")
            here = await at_client(reader, writer)
            writer.close()
            assert here == await served
            return here - (3 << 20)

    held_at = asyncio.run(main())
    assert HIGH_WATER_BYTES <= held_at <= STREAM_WINDOW_BYTES + ROOM


def test_strangers_have_a_small_window_for_all_their_streams():
    """Before anybody has proved himself there is one stream with a small window; then the others begin, and all comes."""
    arrived = served = 0

    async def main():
        may_read = asyncio.Event()

        async def serve(reader, writer):
            nonlocal arrived, served
            served += 1
            arrived += len(await reader.readexactly(1))
            await may_read.wait()
            writer.transport.trust()
            while data := await reader.read(READ_BYTES):
                arrived += len(data)
            writer.close()

        async with serving(serve) as listening, dialled(listening.port) as client:
            writers = [(await client.open_stream())[1] for _ in range(4)]
            written = await asyncio.gather(*(push_until_held(writer) for writer in writers))
            assert written[0] <= UNTRUSTED_WINDOW_BYTES + ROOM
            assert served == 1
            may_read.set()
            for writer in writers:
                writer.close()
            while arrived < sum(written):
                await asyncio.sleep(0.01)
            assert served == 4

    asyncio.run(main())


def test_no_more_streams_at_a_time_than_allowed():
    """One stream beyond the number waits until another is over."""

    async def main():
        open_streams, most = 0, 0

        async def serve(reader, writer):
            nonlocal open_streams, most
            writer.transport.trust()
            open_streams += 1
            most = max(most, open_streams)
            data = await reader.read(-1)
            open_streams -= 1
            writer.write(data)
            writer.close()

        async with serving(serve) as listening, dialled(listening.port) as client:
            streams = [await client.open_stream() for _ in range(2 * MAX_STREAMS)]
            for number, (_, writer) in enumerate(streams):
                writer.write(b"%d" % number)
            while open_streams < MAX_STREAMS:
                await asyncio.sleep(0.01)
            for number, (reader, writer) in enumerate(streams):
                writer.write_eof()
                assert await reader.read(-1) == b"%d" % number
            assert most == MAX_STREAMS

    asyncio.run(main())
