"""The proof of a worker's identity: an Ed25519 signature over everything that makes this session this one."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from octaskly_wire.errors import BadProof
from octaskly_wire.limits import PROTOCOL_VERSION

_LABEL: Final = f"octaskly worker auth v{PROTOCOL_VERSION}"


def transcript(
    cluster_id: str,
    transport: str,
    server_certificate_der: bytes,
    server_nonce: bytes,
    client_nonce: bytes,
    worker_id: str,
    boot_id: str,
) -> bytes:
    """Return what is signed: label and parts, each behind its length, so that no two lists read alike.

    The digest of the server's certificate is the one the worker saw: behind a machine in the middle it
    differs from the dispatcher's own.
    """
    parts = (
        _LABEL.encode(),
        cluster_id.encode(),
        transport.encode(),
        sha256(server_certificate_der).digest(),
        server_nonce,
        client_nonce,
        worker_id.encode(),
        boot_id.encode(),
    )
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign(key: Ed25519PrivateKey, signed: bytes) -> bytes:
    """Return the signature of a transcript."""
    return key.sign(signed)


def verify(public_key: Ed25519PublicKey, signed: bytes, signature: bytes) -> None:
    """Raise BadProof unless the key's owner signed exactly this transcript."""
    try:
        public_key.verify(signature, signed)
    except InvalidSignature:
        raise BadProof("the signature does not fit this session") from None
