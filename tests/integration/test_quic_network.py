"""QUIC on a network that moves, falls silent, and is full of strangers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace

import pytest
from aioquic.quic.packet import QuicProtocolVersion

from octaskly_quic import dialing
from octaskly_quic.credited_connection import CreditedConnection
from octaskly_quic.dialing import connect
from octaskly_quic.listening import ListenerLimits
from tests.support.quic_ends import HOST, OWN, PATIENCE_S, TRUST, dialled, echo, serving


class Relay(asyncio.DatagramProtocol):
    """Stands between client and server, and can show the client under another address."""

    def __init__(self, server_port):
        self.server = (HOST, server_port)
        self.client = None
        self.is_cut = False
        self.back = None

    @classmethod
    @contextlib.asynccontextmanager
    async def standing(cls, server_port):
        """Relay for the time of a test."""
        relay = cls(server_port)
        relay.front, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: relay, local_addr=(HOST, 0))
        relay.port = relay.front.get_extra_info("sockname")[1]
        await relay.move()
        try:
            yield relay
        finally:
            relay.front.close()
            relay.back.close()
            await asyncio.sleep(0)

    async def move(self):
        """Go on from another port."""
        relay = self
        if self.back is not None:
            self.back.close()

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                relay.front.sendto(data, relay.client)

        self.back, _ = await asyncio.get_running_loop().create_datagram_endpoint(Back, local_addr=(HOST, 0))

    def datagram_received(self, data, addr):
        """Pass on what the client sends."""
        self.client = addr
        if not self.is_cut:
            self.back.sendto(data, self.server)


def test_a_connection_stays_when_the_client_moves():
    """The client's address changes: the same stream goes on, and the server knows where the client is now."""

    async def main():
        served = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            served.set_result(writer)
            await echo(reader, writer)

        async with (
            serving(serve) as listening,
            Relay.standing(listening.port) as relay,
            dialled(relay.port) as client,
        ):
            reader, writer = await client.open_stream()
            places = []
            for _ in range(3):
                writer.write(b"still here")
                assert await reader.readexactly(10) == b"still here"
                places.append((await served).get_extra_info("peername")[1])
                await relay.move()
            assert len(set(places)) == 3
            client.abort()
            await (await served).get_extra_info("quic").wait_closed()

    asyncio.run(main())


def test_silence_ends_a_connection_and_a_ping_keeps_one(monkeypatch):
    """Without a word for the idle time the streams fail; pings keep a connection on which nobody speaks."""
    monkeypatch.setattr(dialing, "KEEP_ALIVE_S", 0.1)
    short = replace(TRUST, idle_timeout=0.6)

    async def main():
        async with (
            serving(echo, replace(OWN, idle_timeout=0.6)) as listening,
            Relay.standing(listening.port) as relay,
            dialled(relay.port, short) as client,
        ):
            reader, _writer = await client.open_stream()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait_closed(), 1.0)
            relay.is_cut = True
            with pytest.raises(ConnectionResetError):
                await reader.read(1)

    asyncio.run(main())


# --- strangers -------------------------------------------------------------------------------------


def initial(port):
    """Return a client's first datagram, of a connection that nobody means."""
    quic = CreditedConnection(configuration=TRUST)
    quic.connect((HOST, port), now=0.0)
    return quic.datagrams_to_send(now=0.0)[0][0]


def test_a_flood_of_first_datagrams_is_dropped_and_hurts_nobody():
    """Ten thousand beginnings get few answers and leave nothing behind, while a trusted peer is answered after each hundred."""

    async def main():
        async with (
            serving(echo, limits=ListenerLimits(replies_per_s=50)) as listening,
            dialled(listening.port) as client,
        ):
            reader, writer = await client.open_stream()
            template = initial(listening.port)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((HOST, 0))
                stranger.setblocking(False)
                answers = 0
                for round_number in range(100):
                    for number in range(100):
                        connection_id = (round_number * 100 + number).to_bytes(8, "big")
                        stranger.sendto(template[:6] + connection_id + template[14:], (HOST, listening.port))
                    writer.write(b"beat")
                    assert await reader.readexactly(4) == b"beat"
                    with contextlib.suppress(BlockingIOError):
                        while stranger.recv(2000):
                            answers += 1
            assert 1 <= answers <= 500
            assert len(listening._connections) == 1
            writer.close()

    assert initial(1)[1:5] == QuicProtocolVersion.VERSION_1.to_bytes(4, "big")
    asyncio.run(main())


def test_handshakes_are_begun_at_a_bounded_rate_and_nonsense_is_dropped(caplog):
    """Of many who come at once some are let in, the others later; what is no QUIC, or half of it, is not even logged."""

    async def main():
        async with serving(echo, limits=ListenerLimits(handshakes_per_s=2)) as listening:
            template = initial(listening.port)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for size in range(1, 1200, 25):
                    stranger.sendto(os.urandom(size), (HOST, listening.port))
                    stranger.sendto(template[:size], (HOST, listening.port))
            tries = [connect(HOST, listening.port, TRUST, timeout_s=1.0) for _ in range(12)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            clients = [result for result in results if isinstance(result, dialing.QuicClient)]
            for client in clients:
                client.abort()
            assert all(isinstance(result, TimeoutError) for result in results if result not in clients)
            assert 1 <= len(clients) <= 5

    asyncio.run(main())
    assert caplog.records == []


def test_the_oldest_stranger_makes_room():
    """Strangers beyond the number push out the oldest of them, and never who is trusted."""

    async def main():
        limits = ListenerLimits(max_untrusted=5, untrusted_timeout_s=600)
        async with serving(echo, limits=limits) as listening, contextlib.AsyncExitStack() as stack:
            trusted = await stack.enter_async_context(dialled(listening.port))
            reader, writer = await trusted.open_stream()
            writer.write(b"x")
            await reader.readexactly(1)
            idle = [await stack.enter_async_context(dialled(listening.port)) for _ in range(8)]
            await asyncio.gather(*(client.wait_closed() for client in idle[:3]))
            assert not any(client.is_closed for client in [trusted, *idle[3:]])
            writer.close()

    asyncio.run(main())


def test_a_stranger_may_not_stay_and_who_has_no_session_left_is_one():
    """A connection without a stream whose peer has proved itself ends after some time; with one it stays."""

    async def main():
        limits = ListenerLimits(untrusted_timeout_s=0.4)
        async with (
            serving(echo, limits=limits) as listening,
            dialled(listening.port) as trusted,
        ):
            reader, writer = await trusted.open_stream()
            writer.write(b"x")
            await reader.readexactly(1)
            async with dialled(listening.port) as stranger:
                await stranger.wait_closed()
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
            writer.close()
            await trusted.wait_closed()

    asyncio.run(main())


@pytest.mark.quic
def test_five_hundred_idle_strangers_hold_nobody_up():
    """While five hundred connect and say nothing, a trusted peer is answered all along, and no more than allowed stay."""

    async def main():
        limits = ListenerLimits(handshakes_per_s=1000, untrusted_timeout_s=600)
        async with serving(echo, limits=limits) as listening, dialled(listening.port) as trusted:
            reader, writer = await trusted.open_stream()
            strangers, came_meanwhile = [], []

            async def beat():
                while (before := len(strangers)) < 500:
                    writer.write(b"beat")
                    assert await reader.readexactly(4) == b"beat"
                    came_meanwhile.append(len(strangers) - before)

            async def come():
                while len(strangers) < 500:
                    strangers.append(await connect(HOST, listening.port, TRUST, timeout_s=PATIENCE_S))

            await asyncio.gather(beat(), *(come() for _ in range(10)))
            # Counted in strangers and not in seconds: how fast this machine is does not matter.
            assert max(came_meanwhile) < 100
            assert len(listening._untrusted) == limits.max_untrusted
            assert not trusted.is_closed
            for stranger in strangers:
                stranger.abort()
            writer.close()

    asyncio.run(main())
