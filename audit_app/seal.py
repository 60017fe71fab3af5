"""Seals what the trail keeps secret: AES-256-GCM, each time under a key of its own that is derived for one purpose. Pure."""

from __future__ import annotations

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SALT_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""No key seals twice."""


class WrongSeal(Exception):
    """What is sealed does not open: the secret key is another one, or somebody wrote it without having that key."""


def seal(sealing_key: bytes, purpose: str, content: bytes) -> bytes:
    """Return the content sealed; it opens for the same key and purpose only."""
    salt = os.urandom(_SALT_BYTES)
    return salt + AESGCM(_key_of(sealing_key, purpose, salt)).encrypt(_NONCE, content, None)


def unseal(sealing_key: bytes, purpose: str, sealed: bytes) -> bytes:
    """Return what was sealed; raises WrongSeal."""
    salt, content = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:]
    try:
        return AESGCM(_key_of(sealing_key, purpose, salt)).decrypt(_NONCE, content, None)
    except (InvalidTag, ValueError):
        raise WrongSeal(f"the {purpose} was sealed with another secret key") from None


def _key_of(sealing_key: bytes, purpose: str, salt: bytes) -> bytes:
    return hmac.digest(sealing_key, f"octaskly {purpose} v1\0".encode() + salt, "sha256")
