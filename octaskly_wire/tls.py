"""TLS contexts of both ends, and the check that a session really has the one cipher suite.

`cipher_pin` makes OpenSSL offer only that suite; `check_cipher` holds where it could not.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octaskly_wire.errors import WrongCipher
from octaskly_wire.identity import key_to_pem

CIPHER_SUITE: Final = "TLS_AES_256_GCM_SHA384"
VERSION: Final = "TLSv1.3"


def server_context(
    trusted: bytes, certificate: bytes, key: Ed25519PrivateKey | EllipticCurvePrivateKey
) -> ssl.SSLContext:
    """Return the dispatcher's context: a client certificate is checked when given.

    `trusted`: one CA's certificate (DER), or several, joined. A client's is optional because a machine that enrols has none yet; the handshake lets it do nothing else.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # No resumption: every session proves itself in full.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=trusted)
    _load_own(context, certificate, key)
    return context


def client_context(trusted: bytes, certificate: bytes | None, key: Ed25519PrivateKey | None) -> ssl.SSLContext:
    """Return the worker's context: only a dispatcher of a trusted CA, under the name the caller gives, will do.

    `trusted`: one CA's certificate (DER), or several, joined.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trusted)
    if certificate is not None and key is not None:
        _load_own(context, certificate, key)
    return context


def unverified_client_context() -> ssl.SSLContext:
    """Return a context that believes anybody. Only for fetching the CA, which is then compared with the pin."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_cipher(session: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Raise WrongCipher unless the session has TLS 1.3 with AES-256-GCM. Call it before any byte is sent."""
    cipher = session.cipher()
    name = cipher[0] if cipher else "none"
    if session.version() != VERSION or name != CIPHER_SUITE:
        raise WrongCipher(f"the peer agreed on {session.version()} {name}, not on {VERSION} {CIPHER_SUITE}")


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load_own(context: ssl.SSLContext, certificate: bytes, key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> None:
    with _file_of(key_to_pem(key) + ssl.DER_cert_to_PEM_cert(certificate).encode()) as path:
        context.load_cert_chain(path)


@contextlib.contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """Lend a file for one call, since the ssl module reads keys from files only. On Linux it touches no disk."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("octaskly-key"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="octaskly-", suffix=".pem")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        Path(path).unlink()
