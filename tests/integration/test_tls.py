"""Real TLS handshakes over loopback: one version, one cipher suite, one CA, the right roles, at both ends."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aioquic.tls import CipherSuite

from dispatcher.ports import WorkerRefused
from octaskly_quic import dialing
from octaskly_quic.configuration import client_configuration
from octaskly_wire import identity, tls
from octaskly_wire.cipher_pin import OPENSSL_CONF
from octaskly_wire.codec import Codec
from octaskly_wire.errors import WrongCipher
from octaskly_wire.vocabulary import Transport
from tests.support.scripted_worker import Dispatcher, NoBlobs
from worker_node.config import Address
from worker_node.shell import tcp_dialer

NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)
ROGUE_CA, ROGUE_KEY = identity.make_ca("c1", NOW)
KEY = identity.new_key()
NAME = identity.dispatcher_server_name("c1")


def dispatcher_leaf(ca=CA, ca_key=CA_KEY, cluster_id="c1", now=NOW):
    """Issue a dispatcher's certificate."""
    return identity.issue_dispatcher_certificate(ca, ca_key, cluster_id, KEY.public_key(), now)


def worker_leaf(ca=CA, ca_key=CA_KEY, now=NOW):
    """Issue a worker's certificate."""
    return identity.issue_worker_certificate(ca, ca_key, "c1", "w1", KEY.public_key(), now)


def talk(server_context, client_context, server_hostname=NAME):
    """Let a client send one byte; return what the server saw: the byte and the client's certificate, or an error."""
    seen: list[object] = []

    async def serve(reader, writer):
        try:
            session = writer.get_extra_info("ssl_object")
            tls.check_cipher(session)
            data = await reader.read(1)
            seen.append((data, session.getpeercert(binary_form=True)))
            writer.write(data)
            await writer.drain()
        except (WrongCipher, OSError) as error:
            seen.append(error)
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client_context, server_hostname=server_hostname
                )
                try:
                    tls.check_cipher(writer.get_extra_info("ssl_object"))
                    writer.write(b"x")
                    await writer.drain()
                    return await reader.read(1)
                finally:
                    writer.close()
        finally:
            server.close()
            # Lets the server's side of a failed handshake end before the loop does.
            await asyncio.sleep(0.05)

    return asyncio.run(main()), seen


def test_both_ends_agree_on_the_one_suite():
    """A worker with its certificate and the dispatcher of its CA talk, and the dispatcher sees who it is."""
    leaf = worker_leaf()
    answer, seen = talk(tls.server_context(CA, dispatcher_leaf(), KEY), tls.client_context(CA, leaf, KEY))
    assert answer == b"x"
    assert seen == [(b"x", leaf)]


def test_machine_without_certificate_may_connect_to_enrol():
    """The handshake lets it in; the session then lets it do nothing but enrol."""
    _, seen = talk(tls.server_context(CA, dispatcher_leaf(), KEY), tls.client_context(CA, None, None))
    assert seen == [(b"x", None)]


@pytest.mark.parametrize(
    ("leaf", "name"),
    [
        (dispatcher_leaf(ROGUE_CA, ROGUE_KEY), NAME),
        (dispatcher_leaf(now=NOW - timedelta(days=91)), NAME),
        (dispatcher_leaf(cluster_id="c2"), NAME),
        (worker_leaf(), NAME),
    ],
    ids=["rogue CA", "expired", "other cluster", "a worker's certificate"],
)
def test_worker_sends_nothing_to_a_false_dispatcher(leaf, name):
    """The worker ends the handshake; not a byte of its own is sent."""
    context = tls.server_context(CA, leaf, KEY)
    with pytest.raises(ssl.SSLError):
        talk(context, tls.client_context(CA, None, None), name)


@pytest.mark.parametrize(
    "leaf",
    [worker_leaf(ROGUE_CA, ROGUE_KEY), worker_leaf(now=NOW - timedelta(days=31)), dispatcher_leaf()],
    ids=["rogue CA", "expired", "a dispatcher's certificate"],
)
def test_dispatcher_hears_nothing_from_a_false_worker(leaf):
    """With TLS 1.3 the worker may think it is connected; the dispatcher never reads its byte."""
    try:
        answer, seen = talk(tls.server_context(CA, dispatcher_leaf(), KEY), tls.client_context(CA, leaf, KEY))
    except OSError:
        return
    assert answer == b""
    assert not any(isinstance(item, tuple) for item in seen)


PEER = """
import socket, ssl, sys
role, port, suite, leaf = sys.argv[1:]
version = ssl.TLSVersion.TLSv1_2 if suite == "tls12" else ssl.TLSVersion.TLSv1_3
if role == "client":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", int(port)), 5)
else:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    plain = listening.accept()[0]
context.minimum_version = context.maximum_version = version
try:
    with context.wrap_socket(plain, server_side=role == "server") as session:
        if role == "client":
            session.sendall(b"\\0\\0\\0\\x10\\1")
        print("heard", session.recv(100), flush=True)
except OSError as error:
    print("refused", error)
"""
"""A peer that speaks nothing but what it is told to, and says what it heard."""

OTHERS = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "tls12"]


async def start_peer(folder, role, suite, port=0):
    """Start the peer as a program, since its suites are chosen before OpenSSL is loaded."""
    config = OPENSSL_CONF.read_text()
    if suite != "tls12":
        config = config.replace("TLS_AES_256_GCM_SHA384", suite)
    (folder / "openssl.cnf").write_text(config.replace("MinProtocol = TLSv1.3", "MinProtocol = TLSv1.2"))
    leaf = folder / "leaf.pem"
    leaf.write_bytes(identity.key_to_pem(KEY) + ssl.DER_cert_to_PEM_cert(dispatcher_leaf()).encode())
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PEER, role, str(port), suite, str(leaf),
        stdout=subprocess.PIPE, env={**os.environ, "OPENSSL_CONF": str(folder / "openssl.cnf")},
    )  # fmt: skip


@pytest.mark.parametrize("suite", OTHERS)
def test_worker_that_offers_something_else_is_not_heard(tmp_path, suite):
    """The dispatcher's real listener refuses it before a byte is handled, and records that."""

    async def main():
        dispatcher = Dispatcher(NoBlobs())
        async with asyncio.timeout(20), dispatcher.running():
            peer = await start_peer(tmp_path, "client", suite, dispatcher.port)
            out, _ = await peer.communicate()
            while not dispatcher.store.records:
                await asyncio.sleep(0.01)
        assert b"heard b'\\" not in out
        return dispatcher.store.records

    [record] = asyncio.run(main())
    assert isinstance(record, WorkerRefused)
    assert record.detail.startswith("TLS: ")


@pytest.mark.quic
@pytest.mark.parametrize("suite", ["AES_128_GCM_SHA256", "CHACHA20_POLY1305_SHA256"])
def test_worker_that_offers_something_else_over_quic_is_not_heard(monkeypatch, suite):
    """There too: refused in the handshake, and recorded."""
    monkeypatch.setattr("tests.support.transports._current", Transport.QUIC)

    async def main():
        dispatcher = Dispatcher(NoBlobs())
        trust = replace(client_configuration([CA], NAME), cipher_suites=[CipherSuite[suite]])
        async with asyncio.timeout(20), dispatcher.running():
            with pytest.raises(OSError):
                await dialing.connect("127.0.0.1", dispatcher.port, trust, timeout_s=5)
            while not dispatcher.store.records:
                await asyncio.sleep(0.01)
        return dispatcher.store.records

    [record] = asyncio.run(main())
    assert isinstance(record, WorkerRefused)
    assert record.detail.startswith("TLS: ")


@pytest.mark.parametrize("suite", OTHERS)
def test_dispatcher_that_offers_something_else_hears_nothing(tmp_path, suite):
    """Even where the worker would believe anybody: a false suite ends it before a word is said."""

    async def main():
        async with asyncio.timeout(20):
            peer = await start_peer(tmp_path, "server", suite)
            address = Address("127.0.0.1", int(await peer.stdout.readline()))
            with pytest.raises((OSError, WrongCipher)):
                await tcp_dialer.connect(address, None, Codec.MSGPACK)
            out, _ = await peer.communicate()
        return out

    out = asyncio.run(main())
    assert out.startswith(b"refused") or out == b"heard b''\n"


def test_pinned_process_offers_one_suite_only():
    """With the pin set before OpenSSL is loaded, nothing else is even offered."""
    code = (
        "from octaskly_wire.cipher_pin import pin_cipher_suite; assert pin_cipher_suite(); import ssl;"
        "names = [c['name'] for c in ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ciphers()"
        " if c['protocol'] == 'TLSv1.3']; print(names)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "['TLS_AES_256_GCM_SHA384']"


def test_late_pin_says_that_it_came_late():
    """Where OpenSSL was loaded first the pin reports it; the check after each handshake still holds."""
    code = "import ssl; from octaskly_wire.cipher_pin import pin_cipher_suite; print(pin_cipher_suite())"
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"
