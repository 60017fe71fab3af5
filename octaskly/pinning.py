"""TLS contexts: one that accepts a pinned key and nothing else, and one that trusts as the system does.

The check of the pin is part of the handshake: `sslsocket_class` and `sslobject_class` are what `ssl` itself makes
connections from, for blocking sockets and for event loops. A wrong key raises out of `do_handshake`, so no caller
ever has a connection to send a request over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
from typing import Any


class WrongKey(ssl.SSLError):
    """The peer proved another key than the pinned one."""

    def __init__(self, seen: str) -> None:
        super().__init__(f"the server's key is {seen}")
        self.seen = seen


def pinned_context(pin: str) -> ssl.SSLContext:
    """Return a context for the one server that holds the key of this pin, whatever its certificate says."""

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's signature
            super().do_handshake(block)
            _check(self.getpeercert(binary_form=True), pin)

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            _check(self.getpeercert(binary_form=True), pin)

    context = _unverified()
    context.sslsocket_class = PinnedSocket
    context.sslobject_class = PinnedObject
    return context


def trusting_context() -> ssl.SSLContext:
    """Return a context that believes the authorities which this system believes."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def pin_of(certificate: bytes) -> str:
    """Return the pin of a certificate in DER: the digest of its public key, as curl writes it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(info).digest()).decode("ascii")


def seen_pin(host: str, port: int, timeout_s: float = 10.0) -> str:
    """Shake hands with a server, send nothing, and return the pin of the key that it proved."""
    with (
        socket.create_connection((host, port), timeout=timeout_s) as plain,
        _unverified().wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate = secure.getpeercert(binary_form=True)
    if certificate is None:
        raise ssl.SSLError("the server showed no certificate")
    return pin_of(certificate)


def wrong_key_behind(error: BaseException) -> WrongKey | None:
    """Return the WrongKey that a library wrapped, if that is what happened."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, WrongKey):
            return current
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__]
    return None


def _check(certificate: bytes | None, pin: str) -> None:
    seen = pin_of(certificate) if certificate else "missing"
    if not hmac.compare_digest(seen, pin):
        raise WrongKey(seen)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
