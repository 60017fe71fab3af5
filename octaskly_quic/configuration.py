"""What both ends offer in the QUIC handshake: TLS 1.3 with one cipher suite, one protocol, no resumption."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import Final

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octaskly_quic.bounded_flight import ALGORITHM
from octaskly_quic.credit import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, UNTRUSTED_WINDOW_BYTES

ALPN: Final = "octaskly/1"
MAX_DATAGRAM_BYTES: Final = 1350
"""With the headers below the MTU of an Ethernet, also through a tunnel."""

IDLE_TIMEOUT_S: Final = 30.0
KEEP_ALIVE_S: Final = 10.0
"""How often a client sends something, whatever its streams do."""

# Strangers cause the library's lines; what matters is logged here and by whoever dials or listens.
logging.getLogger("quic").setLevel(logging.CRITICAL)


def server_configuration(certificate: bytes, key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> QuicConfiguration:
    """Return the dispatcher's configuration; the certificate is DER."""
    configuration = _configuration(is_client=False)
    configuration.max_data = UNTRUSTED_WINDOW_BYTES
    configuration.certificate = x509.load_der_x509_certificate(certificate)
    configuration.private_key = key
    return configuration


def client_configuration(trusted: Sequence[bytes], server_name: str) -> QuicConfiguration:
    """Return the worker's configuration: only a dispatcher of these CAs (DER), under this name, will do."""
    configuration = _configuration(is_client=True)
    configuration.verify_mode = ssl.CERT_REQUIRED
    configuration.server_name = server_name
    configuration.cadata = "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in trusted).encode()
    return configuration


def unverified_client_configuration() -> QuicConfiguration:
    """Return a configuration that believes anybody. Only for fetching the CA, which is then compared with the pin."""
    configuration = _configuration(is_client=True)
    configuration.verify_mode = ssl.CERT_NONE
    return configuration


def _configuration(*, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[ALPN],
        cipher_suites=[CipherSuite.AES_256_GCM_SHA384],
        supported_versions=[QuicProtocolVersion.VERSION_1],
        congestion_control_algorithm=ALGORITHM,
        max_datagram_size=MAX_DATAGRAM_BYTES,
        max_data=CONNECTION_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
        idle_timeout=IDLE_TIMEOUT_S,
    )
