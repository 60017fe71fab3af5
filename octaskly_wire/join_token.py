"""Join tokens: the CA key's digest, by which the worker knows the dispatcher, and a secret, by which it is let in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from octaskly_wire.errors import BadJoinToken

PREFIX: Final = "octa1"
_DIGEST_CHARS: Final = 52
_ID_CHARS: Final = 8
_SECRET_CHARS: Final = 26
_CHECK_CHARS: Final = 4
_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`octa1-<CA digest>-<token id>-<secret>-<checksum>`, lower-case base32 throughout."""

    ca_digest: bytes
    token_id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, ca_digest: bytes, random_bytes: Callable[[int], bytes]) -> JoinToken:
        """Return a fresh token: 40 bits of id, 128 bits of secret."""
        return cls(ca_digest, _base32(random_bytes(5)), _base32(random_bytes(16)))

    @property
    def text(self) -> str:
        """Return the token as people copy it."""
        body = f"{PREFIX}-{_base32(self.ca_digest)}-{self.token_id}-{self.secret}"
        return f"{body}-{_checksum(body)}"

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Return the token in the text; raises BadJoinToken, whose message never repeats the token."""
        parts = text.strip().lower().split("-")
        if parts[0] != PREFIX:
            raise BadJoinToken(f"a join token begins with {PREFIX}-")
        lengths = [len(part) for part in parts[1:]]
        if lengths != [_DIGEST_CHARS, _ID_CHARS, _SECRET_CHARS, _CHECK_CHARS]:
            raise BadJoinToken("the join token is incomplete; copy all of it")
        if not all(_ALPHABET.issuperset(part) for part in parts[1:]):
            raise BadJoinToken("the join token has a character that no join token has")
        if _checksum("-".join(parts[:4])) != parts[4]:
            raise BadJoinToken("the join token is mistyped: its checksum does not fit")
        try:
            ca_digest = base64.b32decode(parts[1].upper() + "====")
        except binascii.Error:
            raise BadJoinToken("the join token is mistyped") from None
        return cls(ca_digest, parts[2], parts[3])


def secret_sha256(secret: str) -> str:
    """Return what the dispatcher keeps of a secret. It is random, so a plain digest cannot be guessed back."""
    return sha256(secret.encode()).hexdigest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(body: str) -> str:
    return _base32(sha256(body.encode()).digest())[:_CHECK_CHARS]
