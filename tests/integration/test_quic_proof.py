"""Who is believed over QUIC: the one dispatcher with the one cipher suite, and nobody else."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import timedelta

import pytest
from aioquic.quic import events
from aioquic.tls import CipherSuite

from octaskly_quic import dialing
from octaskly_quic.configuration import server_configuration, unverified_client_configuration
from octaskly_quic.credited_connection import CreditedConnection
from octaskly_quic.dialing import connect
from octaskly_quic.listening import ServedConnection
from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from tests.support.quic_ends import (
    CA,
    CA_KEY,
    CLUSTER,
    HOST,
    KEY,
    LEAF,
    NAME,
    NOW,
    OWN,
    PATIENCE_S,
    TRUST,
    dialled,
    echo,
    serving,
)


def impostors():
    """Return what a false server might show, and why a client turns away."""
    other_ca, other_key = identity.make_ca(CLUSTER, NOW)
    worker_key = identity.new_key()
    past = NOW - timedelta(days=200)
    return {
        "another authority": (
            identity.issue_dispatcher_certificate(other_ca, other_key, CLUSTER, KEY.public_key(), NOW),
            KEY,
        ),
        "another cluster": (identity.issue_dispatcher_certificate(CA, CA_KEY, "other", KEY.public_key(), NOW), KEY),
        "expired": (identity.issue_dispatcher_certificate(CA, CA_KEY, CLUSTER, KEY.public_key(), past), KEY),
        "a worker with the dispatcher's name": (misused_certificate(worker_key), worker_key),
        "a worker": (
            identity.issue_worker_certificate(CA, CA_KEY, CLUSTER, "w1", worker_key.public_key(), NOW),
            worker_key,
        ),
    }


def misused_certificate(key):
    """Return a certificate of our CA for a client, which has the dispatcher's name in it."""
    return identity._issue_leaf(
        CA,
        CA_KEY,
        identity.x509.DNSName(NAME),
        key.public_key(),
        identity.ExtendedKeyUsageOID.CLIENT_AUTH,
        NOW,
        identity.WORKER_LIFETIME,
    )


def test_false_servers_are_refused_before_anything_is_said(monkeypatch):
    """Another CA, another name, an old or a worker's certificate: the handshake does not even come to its end."""
    seen = []
    on_event = ServedConnection._on_event
    monkeypatch.setattr(
        ServedConnection, "_on_event", lambda self, event: (seen.append(type(event)), on_event(self, event))
    )

    async def main():
        for certificate, key in impostors().values():
            async with serving(echo, server_configuration(certificate, key)) as listening:
                with pytest.raises(BadProof):
                    await connect(HOST, listening.port, TRUST, timeout_s=PATIENCE_S)
        assert events.HandshakeCompleted not in seen
        async with serving(echo) as listening, dialled(listening.port) as client:  # The same server, as it should be.
            assert client.peer_certificate == LEAF

    asyncio.run(main())


@pytest.mark.parametrize(("host", "error"), [("255.255.255.255", PermissionError), (HOST, ConnectionRefusedError)])
def test_where_nobody_can_be_the_error_comes_at_once(host, error):
    """An address that cannot be sent to, and a port on which nobody listens, are told as TCP tells them."""

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        with pytest.raises(error):
            await connect(host, port, TRUST, timeout_s=PATIENCE_S)

    asyncio.run(main())


def test_who_believes_anybody_sees_the_certificate():
    """For fetching the CA any certificate will do; whose it was can be looked at."""

    async def main():
        certificate, key = impostors()["another authority"]
        async with (
            serving(echo, server_configuration(certificate, key)) as listening,
            dialled(listening.port, unverified_client_configuration()) as client,
        ):
            assert client.peer_certificate == certificate

    asyncio.run(main())


def test_other_cipher_suites_are_refused_by_both_ends():
    """Only AES-256-GCM is agreed on, whoever offers more or less."""
    weak = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.CHACHA20_POLY1305_SHA256]

    async def main():
        async with serving(echo) as listening:
            with pytest.raises(OSError):
                await connect(HOST, listening.port, replace(TRUST, cipher_suites=weak), timeout_s=PATIENCE_S)
            both = replace(TRUST, cipher_suites=[*weak, CipherSuite.AES_256_GCM_SHA384])
            async with dialled(listening.port, both) as client:
                assert client._quic.tls.key_schedule.cipher_suite == CipherSuite.AES_256_GCM_SHA384
        async with serving(echo, replace(OWN, cipher_suites=weak)) as listening:
            with pytest.raises(OSError):
                await connect(HOST, listening.port, TRUST, timeout_s=PATIENCE_S)

    asyncio.run(main())


def test_no_tickets_and_an_address_that_is_proved(monkeypatch):
    """A server hands out no ticket to resume with, and lets nobody begin who has not shown to be at his address."""
    tickets = []
    monkeypatch.setattr(
        dialing,
        "CreditedConnection",
        lambda **given: CreditedConnection(session_ticket_handler=tickets.append, **given),
    )

    async def main():
        async with serving(echo) as listening, dialled(listening.port) as client:
            reader, writer = await client.open_stream()
            writer.write(b"x")
            writer.write_eof()
            assert await reader.read(-1) == b"x"
            assert client._quic._retry_count == 1
        assert tickets == []

    asyncio.run(main())
