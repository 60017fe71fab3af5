"""The cluster's key for TLS servers and its pin: one for both ports, and the same after every restart.

P-256, as browsers and the curl of macOS and Windows do not speak Ed25519 in TLS. It proves the dispatcher's machine to
whoever holds the pin; it signs no certificates of the cluster, so that knowing it lets nobody in.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from octaskly_wire.errors import BadProof
from octaskly_wire.identity import BACKDATED

WEB_LIFETIME: Final = timedelta(days=397)
"""Browsers believe no longer; a new one is made at every start anyway."""

PIN_PREFIX: Final = "sha256//"

_NONCE_BYTES: Final = 12
_WRAP_LABEL: Final = b"octaskly server key v1"


def new_server_key() -> EllipticCurvePrivateKey:
    """Return a fresh private key."""
    return generate_private_key(SECP256R1())


def wrap_server_key(key: EllipticCurvePrivateKey, wrapping_key: bytes) -> bytes:
    """Return the private key under AES-256-GCM, nonce first."""
    nonce = os.urandom(_NONCE_BYTES)  # noqa: TID251 - a nonce must never be chosen by a caller
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return nonce + AESGCM(wrapping_key).encrypt(nonce, plain, _WRAP_LABEL)


def unwrap_server_key(blob: bytes, wrapping_key: bytes) -> EllipticCurvePrivateKey:
    """Return the private key; raises BadProof under another wrapping key."""
    try:
        plain = AESGCM(wrapping_key).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], _WRAP_LABEL)
        key = load_der_private_key(plain, password=None)
    except (InvalidTag, ValueError):
        raise BadProof("the key was wrapped with another secret") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise BadProof("not a key for TLS servers")
    return key


def pin_of(key: EllipticCurvePrivateKey) -> str:
    """Return the pin as curl's --pinnedpubkey takes it: of the public key, whatever certificate shows it."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PIN_PREFIX + base64.b64encode(sha256(spki).digest()).decode()


def make_web_certificate(key: EllipticCurvePrivateKey, names: Iterable[str], now: datetime) -> bytes:
    """Return a certificate (DER) for browsers, signed by the key itself, good for these host names and addresses."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Octaskly")])
    # One that may sign others would be a danger to whoever adds it to the trusted ones: it may not.
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + WEB_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.DER)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
