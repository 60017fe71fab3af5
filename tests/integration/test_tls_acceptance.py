"""Accepting TLS connections by hand, on both kinds of loop: who fails is told, who idles makes room, a new context holds."""

from __future__ import annotations

import asyncio
import errno
import ssl
from contextlib import closing, suppress

import pytest

from dispatcher.shell import tls_acceptance
from dispatcher.shell.tls_acceptance import TlsAcceptance
from octaskly_wire import identity, tls
from tests.support import transports
from tests.support.scripted_worker import CA, CA_KEY, CLUSTER, NOW, worker_certificate

NAME = identity.dispatcher_server_name(CLUSTER)
KEY = identity.new_key()
LEAF = identity.issue_dispatcher_certificate(CA, CA_KEY, CLUSTER, KEY.public_key(), NOW)
OTHER_CA, OTHER_KEY = identity.make_ca(CLUSTER, NOW)


async def echo(reader, writer):
    """Send the first words back."""
    writer.write(await reader.read(100))
    writer.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request):
    """Return a function that plays a scene with an echo behind the acceptance."""
    run = asyncio.run if request.param == "asyncio" else pytest.importorskip("uvloop").run

    async def main(scene, handshake_timeout_s):
        failures = []
        contexts = [tls.server_context(CA, LEAF, KEY)]
        acceptance = TlsAcceptance(
            lambda: contexts[-1],
            echo,
            lambda address, error: failures.append((address, error)),
            handshake_timeout_s=handshake_timeout_s,
            shutdown_timeout_s=1.0,
            read_bytes=1 << 16,
        )
        port = await acceptance.start("127.0.0.1", 0)
        try:
            async with asyncio.timeout(20):
                await scene(port, failures, contexts)
        finally:
            await acceptance.close()

    return lambda scene, handshake_timeout_s=10.0: run(main(scene, handshake_timeout_s))


async def say(port, certificate=None, ca=CA):
    """Say something and return what comes back, nothing when the connection was cut."""
    with suppress(OSError):
        stream = await transports.dial(port, NAME, ca, certificate, certificate and KEY)
        with closing(stream):
            stream.writer.write(b"hello")
            return await stream.reader.read(100)
    return b""


async def failed(failures, count):
    """Wait until so many handshakes have failed."""
    while len(failures) < count:
        await asyncio.sleep(0.01)


def test_a_refused_certificate_is_told_with_its_address(play):
    """And it disturbs nobody else."""

    async def scene(port, failures, contexts):
        assert await say(port, worker_certificate("w1", KEY, OTHER_CA, OTHER_KEY)) == b""
        await failed(failures, 1)
        [(address, error)] = failures
        assert (address, type(error)) == ("127.0.0.1", ssl.SSLCertVerificationError)
        assert await say(port, worker_certificate("w1", KEY)) == await say(port) == b"hello"

    play(scene)


def test_who_says_nothing_or_leaves_is_told_as_something_else(play):
    """Neither is a refusal."""

    async def scene(port, failures, contexts):
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        _, leaving = await asyncio.open_connection("127.0.0.1", port)
        leaving.close()
        await failed(failures, 2)
        assert not any(isinstance(error, ssl.SSLError) for _, error in failures)
        silent.close()

    play(scene, 0.2)


def test_a_new_context_holds_from_the_next_connection_on(play):
    """A CA that is trusted no more lets nobody in."""

    async def scene(port, failures, contexts):
        assert await say(port, worker_certificate("w1", KEY)) == b"hello"
        other = identity.issue_dispatcher_certificate(OTHER_CA, OTHER_KEY, CLUSTER, KEY.public_key(), NOW)
        contexts.append(tls.server_context(OTHER_CA, other, KEY))
        assert await say(port, worker_certificate("w1", KEY), OTHER_CA) == b""
        assert await say(port, worker_certificate("w1", KEY, OTHER_CA, OTHER_KEY), OTHER_CA) == b"hello"

    play(scene)


def test_the_oldest_handshake_makes_room(play, monkeypatch):
    """Whoever idles by the hundred keeps nobody out."""
    monkeypatch.setattr(tls_acceptance, "MAX_HANDSHAKES", 4)

    async def scene(port, failures, contexts):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        assert await say(port) == b"hello"
        assert await idle[0][0].read(1) == b""
        for _, writer in idle:
            writer.close()

    play(scene)


def test_without_descriptors_idlers_give_theirs_back(monkeypatch):
    """Accepting goes on as soon as there are some."""

    async def main():
        loop = asyncio.get_running_loop()
        accept, refusals = loop.sock_accept, [OSError(errno.EMFILE, "too many open files")]

        async def accept_or_not(listening):
            await asyncio.sleep(0)
            if refusals and acceptance._handshakes:
                raise refusals.pop()
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", accept_or_not)
        context = tls.server_context(CA, LEAF, KEY)
        acceptance = TlsAcceptance(
            lambda: context, echo, lambda *_: None, handshake_timeout_s=10, shutdown_timeout_s=1, read_bytes=100
        )
        port = await acceptance.start("127.0.0.1", 0)
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read(1) == b""
            writer.close()
            assert await say(port) == b"hello"
        await acceptance.close()

    asyncio.run(main())
