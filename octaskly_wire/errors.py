"""What can go wrong between two peers. Of all these only a lost link can be mended by trying again."""

from __future__ import annotations


class WireError(Exception):
    """Base of all protocol errors."""


class FrameTooLarge(WireError):
    """The peer announced a frame above the cap."""


class MalformedFrame(WireError):
    """The peer sent bytes that are no frame of this protocol."""


class MalformedMessage(WireError):
    """The peer sent a message that the schema refuses."""


class UnexpectedMessage(WireError):
    """The peer sent a message that has no place in the session's present phase."""


class BadProof(WireError):
    """The peer's certificate or signature does not prove what it claims."""


class BadJoinToken(WireError):
    """The join token is mistyped, incomplete or for another cluster."""


class WrongCipher(WireError):
    """The TLS session did not agree on TLS 1.3 with AES-256-GCM."""


class LinkLost(WireError):
    """The connection ended; a new one may succeed."""
