"""The worker's end of QUIC: dials, checks who answers before anything is said, and stays connected while it moves."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import Final, cast

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription, CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from octaskly_quic.configuration import KEEP_ALIVE_S
from octaskly_quic.credited_connection import CreditedConnection
from octaskly_quic.datagrams import Address, DatagramSocket
from octaskly_quic.live_connection import LiveConnection
from octaskly_quic.refusal import refusals
from octaskly_wire.errors import BadProof, WireError, WrongCipher
from octaskly_wire.identity import check_dispatcher_certificate

BAD_CERTIFICATE: Final = QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate
CERTIFICATE_ALERTS: Final = range(BAD_CERTIFICATE, QuicErrorCode.CRYPTO_ERROR + AlertDescription.illegal_parameter)
UNKNOWN_CA: Final = QuicErrorCode.CRYPTO_ERROR + AlertDescription.unknown_ca


async def connect(host: str, port: int, configuration: QuicConfiguration, *, timeout_s: float) -> QuicClient:
    """Return a connection to who has proved to be the server that the configuration asks for.

    Raises OSError (nobody listens), TimeoutError (nobody answers), BadProof or WrongCipher (who answers is not it).
    Each address of the host gets an equal share of the time.
    """
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    addresses = list(dict.fromkeys((family, cast("Address", address)) for family, _, _, _, address in infos))
    error: OSError = OSError(f"{host} has no address")
    for family, address in addresses:
        try:
            return await _connect(family, address, configuration, timeout_s / len(addresses))
        except TimeoutError:
            error = TimeoutError(f"no answer over QUIC from {host} port {port} within {timeout_s:g} s")
        except OSError as failure:
            error = failure
    raise error


async def _connect(family: int, address: Address, configuration: QuicConfiguration, timeout_s: float) -> QuicClient:
    client = QuicClient(family, address, configuration)
    try:
        async with asyncio.timeout(timeout_s), refusals(family, address, client.refuse):
            await client.start()
    except BaseException:
        client.abort()
        raise
    return client


class QuicClient(LiveConnection):
    """A connection to the dispatcher, with a socket of its own, on which we open the streams."""

    def __init__(self, family: int, server: Address, configuration: QuicConfiguration) -> None:
        # The wildcard address, and no connected socket: the machine may change its address, the connection stays.
        wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104
        self._socket = DatagramSocket(family, (wildcard, 0), self._on_datagram)
        super().__init__(CreditedConnection(configuration=configuration), self._socket.send)
        self._configuration = configuration
        self._server = server
        self._hands_shaken: asyncio.Future[None] = self._loop.create_future()
        self._refusal: WireError | None = None
        self._keep_alive: asyncio.TimerHandle | None = None
        self._quic.connect(server, now=time.monotonic())  # Sends nothing yet; from here on it can be aborted.

    async def start(self) -> None:
        """Run the handshake; raises OSError, BadProof or WrongCipher."""
        await self._socket.start()
        self._transmit()
        await self._hands_shaken

    def refuse(self, error: OSError) -> None:
        """Hear that nobody listens there: the handshake has failed."""
        if not self._hands_shaken.done():
            self._hands_shaken.set_exception(error)

    def _on_datagram(self, data: bytes, address: Address) -> None:  # noqa: ARG002 - whatever address it came from
        # A server with several addresses may answer from another than was asked; its keys prove it, not its address.
        self.receive(data, self._server)

    @property
    def peer_certificate(self) -> bytes:
        """Return the certificate (DER) that the server has shown."""
        shown = cast("x509.Certificate", self._quic.tls._peer_certificate)  # noqa: SLF001 - there is no public way
        return shown.public_bytes(Encoding.DER)

    async def open_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the ends of a new stream; raises ConnectionError when the connection is over.

        Beyond the number that the server allows, what is written waits until another stream is over.
        """
        if self.is_closed or self._is_closing:
            raise self.end_error or ConnectionResetError("the QUIC connection is closed")
        return self._new_stream(self._quic.open_stream())

    # --- the handshake's end -----------------------------------------------------------------------

    def _on_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            # Before anything is sent that the server could take for our word: not even our end of the handshake is.
            try:
                self._check_server()
            except WireError as error:
                self._refusal = error
                self._quic.close(BAD_CERTIFICATE, QuicFrameType.CRYPTO, str(error))
            else:
                self._keep_alive = self._loop.call_later(KEEP_ALIVE_S, self._ping)
                if not self._hands_shaken.done():
                    self._hands_shaken.set_result(None)
        else:
            super()._on_event(event)

    def _check_server(self) -> None:
        schedule = self._quic.tls.key_schedule
        if schedule is None or schedule.cipher_suite != CipherSuite.AES_256_GCM_SHA384:
            raise WrongCipher("the QUIC session did not agree on AES-256-GCM")
        if self._configuration.verify_mode != ssl.CERT_NONE:
            trusted = x509.load_pem_x509_certificates(self._configuration.cadata or b"")
            check_dispatcher_certificate(
                self.peer_certificate,
                [certificate.public_bytes(Encoding.DER) for certificate in trusted],
                self._configuration.server_name or "",
                datetime.now(UTC),
            )

    def _failure(self) -> Exception:
        code, reason = self._quic.end
        if self._refusal is None and self._quic.is_closed_by_us and (code in CERTIFICATE_ALERTS or code == UNKNOWN_CA):
            self._refusal = BadProof(f"the dispatcher's certificate was refused: {reason}")
        return self._refusal or self.end_error or ConnectionResetError("the server closed the connection")

    def _ping(self) -> None:
        self._keep_alive = self._loop.call_later(KEEP_ALIVE_S, self._ping)
        self._quic.send_ping(0)
        self._transmit_soon()

    def _end(self) -> None:
        super()._end()
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if not self._hands_shaken.done():
            self._hands_shaken.set_exception(self._failure())
            self._hands_shaken.exception()  # Whoever waited may have left.
        self._socket.close()
