"""Streams on either transport: what a test says over TCP it says over QUIC too, under the marker `quic`.

A file whose tests run on both has `pytestmark = pytest.mark.usefixtures("transport")`; what opens and serves connections
in the supports follows that fixture.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from octaskly_wire import tls
from octaskly_wire.errors import BadProof
from octaskly_wire.vocabulary import Transport

BOTH = [Transport.TCP, pytest.param(Transport.QUIC, marks=pytest.mark.quic)]
ONLY_TCP = pytest.mark.parametrize("transport", [Transport.TCP], indirect=True)
HOST = "127.0.0.1"
PATIENCE_S = 10.0
FALSE_SERVER = (ssl.SSLCertVerificationError, BadProof)
"""What a client raises when the server is not the one it wants."""

OnStream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_current = Transport.TCP


def current() -> Transport:
    """Return the transport that the running test is about."""
    return _current


@pytest.fixture(params=BOTH, ids=str)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Transport:
    """Run the test over TCP and over QUIC."""
    monkeypatch.setattr("tests.support.transports._current", request.param)
    return request.param


@dataclass
class Stream:
    """The client's end of a new connection with one stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    leaf: bytes
    """The certificate that the server showed, DER."""
    carrier: Any = None
    """The QUIC connection, which ends with the stream."""

    def close(self) -> None:
        """End the connection behind what is written."""
        self.writer.close()
        if self.carrier:
            self.carrier.close()

    def abort(self) -> None:
        """End the connection now."""
        self.writer.transport.abort()
        if self.carrier:
            self.carrier.abort()


@dataclass
class Credentials:
    """What a server proves itself with, and whose clients it believes."""

    ca: bytes
    certificate: bytes
    key: Any


@dataclass
class Serving:
    """A running listener."""

    port: int
    close: Callable[[], Awaitable[None]]


async def dial(port: int, name: str, ca: bytes | None, certificate: bytes | None = None, key: Any = None) -> Stream:
    """Open a stream to a server of this CA and name, to anybody without a CA; raise what the transport raises.

    The certificate and its key are shown where the transport asks for them, which QUIC does not.
    """
    if current() is Transport.TCP:
        context = tls.client_context(ca, certificate, key) if ca else tls.unverified_client_context()
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name if ca else "")
        return Stream(reader, writer, writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    from octaskly_quic import configuration, dialing

    trust = configuration.client_configuration([ca], name) if ca else configuration.unverified_client_configuration()
    carrier = await dialing.connect(HOST, port, trust, timeout_s=PATIENCE_S)
    return Stream(*await carrier.open_stream(), carrier.peer_certificate, carrier)


def trust(writer: asyncio.StreamWriter) -> None:
    """Tell the transport that the peer has proved itself, as the dispatcher does: QUIC then lets it send much."""
    if current() is Transport.QUIC:
        writer.transport.trust()  # type: ignore[attr-defined]


async def serve(credentials: Credentials, on_stream: OnStream, port: int = 0) -> Serving:
    """Listen on loopback; TLS is as the dispatcher has it."""
    if current() is Transport.TCP:
        context = tls.server_context(credentials.ca, credentials.certificate, credentials.key)
        server = await asyncio.start_server(on_stream, HOST, port, ssl=context)

        async def close() -> None:
            server.close()
            await server.wait_closed()

        return Serving(server.sockets[0].getsockname()[1], close)
    from octaskly_quic import configuration, listening

    own = configuration.server_configuration(credentials.certificate, credentials.key)
    listener = await listening.listen(
        HOST, port, lambda: own, on_stream, limits=listening.ListenerLimits(untrusted_timeout_s=600)
    )

    async def end() -> None:
        listener.close()
        await listener.wait_closed()

    return Serving(listener.port, end)
