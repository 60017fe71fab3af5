"""Strangers and enrolled workers who mean harm, against a real dispatcher, beside a worker that must not feel them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import statistics
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from octaskly_quic import configuration
from octaskly_quic import dialing as quic
from octaskly_wire import identity
from octaskly_wire.codec import Codec
from octaskly_wire.errors import WireError
from octaskly_wire.join_token import JoinToken
from octaskly_wire.limits import MAX_FRAME_BYTES, MAX_UNAUTHENTICATED_FRAME_BYTES
from octaskly_wire.messages import Register
from octaskly_wire.vocabulary import Transport
from tests.support import heartbeat_clock, transports
from tests.support.cluster import Cluster
from tests.support.fuzzed_frames import Fuzzer
from tests.support.messages import FROM_WORKER
from tests.support.wait import wait_until
from worker_node.config import Address
from worker_node.shell import dialing, quic_dialer, tcp_dialer

STRANGERS = {Transport.TCP: 1500, Transport.QUIC: 200}
SESSIONS = {Transport.TCP: 300, Transport.QUIC: 50}
AT_ONCE = 16
ANSWER_S = 15.0
"""Longer than a handshake may take: whoever is not cut off by then hangs."""
GROWTH_BYTES = 50 << 20
REGISTER = next(message for message in FROM_WORKER if isinstance(message, Register))

HALF_OPEN = 500
"""Connections that send nothing, and as many that send a handshake too slowly."""
IDLE = 500
"""Connections that send nothing after their handshake, on either transport."""
DATAGRAMS = 10_000
NEWCOMER_S = 15.0
MIN_HEARTBEATS = 15
ECHO_P99_S = 1.0
HANDSHAKE_S = 10.0


async def each(count: int, at_once: int, act: Callable[[int], Awaitable[Any]]) -> None:
    """Do something so many times, some of them at the same time."""
    numbers = iter(range(count))

    async def go_on() -> None:
        for number in numbers:
            await act(number)

    await asyncio.gather(*(go_on() for _ in range(at_once)))


async def to_its_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_frame_bytes: int) -> None:
    """Complete whatever frame was begun, badly, and read until the dispatcher has ended the link; if not, it hangs."""
    writer.write(b"\xff" * (max_frame_bytes + 16))
    _, hanging = await asyncio.wait([asyncio.ensure_future(ended(reader))], timeout=ANSWER_S)
    assert not hanging


async def ended(reader: asyncio.StreamReader) -> None:
    """Read to the end, however it comes."""
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass


def worker_seen_connecting(cluster: Cluster) -> list[tuple[int]]:
    """Return how often the healthy worker has connected."""
    return cluster.rows(
        "SELECT count(*) FROM audit_log WHERE event_type = 'worker_connected'"
        " AND worker_id = (SELECT id FROM workers WHERE name = 'healthy')"
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "transport",
    [pytest.param(Transport.TCP, marks=pytest.mark.slow), pytest.param(Transport.QUIC, marks=pytest.mark.quic)],
    indirect=True,
)
def test_hostile_frames_harm_nobody(cluster: Cluster, transport: Transport) -> None:
    """Before and after AUTH: each ends its own link, at once; nothing grows, and a worker beside stays connected."""
    cluster.start_worker("healthy", "--min-sandbox", "basic")
    cluster.wait_connected("healthy")
    process = psutil.Process(cluster.dispatcher.pid)
    connect = tcp_dialer.connect if transport is Transport.TCP else quic_dialer.connect
    address = Address("127.0.0.1", cluster.port)
    fuzzer = Fuzzer(FROM_WORKER, seed=11)

    async def as_stranger(number: int) -> None:
        stream = await transports.dial(cluster.port, "", None)
        stream.writer.write(fuzzer())
        await to_its_end(stream.reader, stream.writer, MAX_UNAUTHENTICATED_FRAME_BYTES)
        stream.abort()

    async def as_worker(found: Any, number: int) -> None:
        # Control links of one worker end each other, so each has a boot of its own, and some lose: that is as it should be.
        connection, _ = await dialing.open_session(connect, address, found, f"boot-{number}", Codec.MSGPACK)
        with contextlib.suppress(OSError, WireError):
            if number % 4:
                await connection.send(REGISTER)
            for _ in range(20):
                connection.writer.write(fuzzer())
            await to_its_end(connection.reader, connection.writer, MAX_FRAME_BYTES)
        connection.abort()

    async def main() -> int:
        token = JoinToken.parse(cluster.join_token())
        found, _ = await dialing.enrol(connect, address, token, identity.new_key(), "hostile", Codec.MSGPACK)
        await each(STRANGERS[transport] // 10, AT_ONCE, as_stranger)  # What is made once is made.
        before = process.memory_info().rss
        await each(STRANGERS[transport], AT_ONCE, as_stranger)
        await each(SESSIONS[transport], 1, lambda number: as_worker(found, number))
        return process.memory_info().rss - before

    assert asyncio.run(main()) < GROWTH_BYTES
    assert worker_seen_connecting(cluster) == [(1,)]
    [task] = cluster.wait_ended(cluster.api.submit("echo still here", sandbox="basic"))
    assert (task["status"], task["stdout"]) == ("completed", "still here\n")


def client_hello() -> bytes:
    """Return the first bytes of a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def first_datagram() -> bytes:
    """Return what looks like the beginning of a QUIC connection until somebody decrypts it."""
    head = struct.pack(">BIB8sB8sB", 0xC3, 1, 8, os.urandom(8), 8, os.urandom(8), 0)
    return (head + struct.pack(">H", 0x4000 | 1200 - len(head) - 2)).ljust(1200, random.randbytes(1))


class Strangers:
    """Connections that prove nothing, opened and held by the hundred; each kind within bounds."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.half_open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.slow: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.idle: list[transports.Stream] = []
        self.idle_quic: list[Any] = []
        self._hello = client_hello()

    async def come(self) -> None:
        """Open all of them, and send the datagrams."""
        for kept in (self.half_open, self.slow):
            await each(HALF_OPEN, 50, lambda _, kept=kept: self._connect(kept))
        self._dripping = asyncio.ensure_future(self._drip())
        await each(IDLE, AT_ONCE, self._shake_hands)
        await asyncio.gather(self._send_datagrams(), each(IDLE, AT_ONCE, self._shake_hands_over_quic))

    async def are_gone(self) -> None:
        """Wait until the dispatcher has ended every one of them."""
        await self._dripping
        readers = [reader for reader, _ in [*self.half_open, *self.slow]] + [stream.reader for stream in self.idle]
        async with asyncio.timeout(2 * HANDSHAKE_S):
            await asyncio.gather(*map(ended, readers), *(client.wait_closed() for client in self.idle_quic))
        for _, writer in [*self.half_open, *self.slow]:
            writer.transport.abort()
        for stream in self.idle:
            stream.abort()

    async def _connect(self, kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        kept.append(await asyncio.open_connection("127.0.0.1", self.port))

    async def _drip(self) -> None:
        """Send a handshake byte by byte, longer than the dispatcher waits."""
        for place in range(int(HANDSHAKE_S) + 2):
            for _, writer in self.slow:
                writer.write(self._hello[place : place + 1])
            await asyncio.sleep(1)

    async def _shake_hands(self, _: int) -> None:
        self.idle.append(await transports.dial(self.port, "", None))

    async def _shake_hands_over_quic(self, _: int) -> None:
        trust = configuration.unverified_client_configuration()
        with contextlib.suppress(OSError):  # So many handshakes a second, and no more.
            self.idle_quic.append(await quic.connect("127.0.0.1", self.port, trust, timeout_s=ANSWER_S))

    async def _send_datagrams(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(DATAGRAMS):
                sender.sendto(first_datagram(), ("127.0.0.1", self.port))
                if number % 50 == 0:
                    await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_floods_of_strangers_delay_no_heartbeat_and_keep_nobody_out(new_cluster: Callable[..., Cluster]) -> None:
    """Half-open, slow and idle connections by the hundred, datagrams by the thousand: a new worker joins amid them."""
    cluster = new_cluster(OCTASKLY_HEARTBEAT_S="0.5", OCTASKLY_LEASE_S="30")
    cluster.start_dispatcher()
    clock = cluster.folder / "heartbeats"
    cluster.start_worker("healthy", inside=[sys.executable, "-m", "tests.support.heartbeat_clock", str(clock)])
    cluster.wait_connected("healthy")
    token = cluster.join_token()
    quiet = len(heartbeat_clock.read(clock))
    strangers = Strangers(cluster.port)

    async def main() -> None:
        await strangers.come()
        await asyncio.to_thread(cluster.start_worker, "newcomer", token=token)
        await asyncio.to_thread(cluster.wait_connected, "newcomer", timeout_s=NEWCOMER_S)
        await strangers.are_gone()

    asyncio.run(main())
    assert len(strangers.idle) == IDLE
    assert len(strangers.idle_quic) > 0.9 * IDLE
    beats = heartbeat_clock.read(clock)[quiet:]
    assert len(beats) > MIN_HEARTBEATS
    assert statistics.quantiles([beat.echo_s for beat in beats], n=100, method="inclusive")[98] < ECHO_P99_S
    assert worker_seen_connecting(cluster) == [(1,)]
    wait_until(
        lambda: len(psutil.Process(cluster.dispatcher.pid).net_connections()) < HALF_OPEN // 10,
        "the dispatcher has let go of all of them",
        describe=cluster.describe,
    )
