"""What the dispatcher proves itself with and whom it believes, changing while it runs.

Listeners ask at each new connection; what stands goes on with what it began with.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octaskly_wire import identity, tls

if TYPE_CHECKING:  # aioquic, which it stands on, may be missing
    from aioquic.quic.configuration import QuicConfiguration

REMEMBERED_LEAVES: Final = 16
"""A connection may be older than the leaf that is shown now, and its later streams still name the one it saw."""


class Credentials:
    """The leaf, its key, and the trusted CAs (certificates in DER)."""

    def __init__(
        self, key: Ed25519PrivateKey | EllipticCurvePrivateKey, leaf: bytes, ca_certificates: Sequence[bytes]
    ) -> None:
        """Begin with a leaf and with the CAs, newest first; the oldest signed the leaf."""
        self._key = key
        self._leaves: deque[bytes] = deque(maxlen=REMEMBERED_LEAVES)
        self._was_replaced = asyncio.Event()
        self.replace(leaf, ca_certificates)

    def replace(self, leaf: bytes, ca_certificates: Sequence[bytes]) -> None:
        """Show this leaf and believe exactly these CAs from the next connection on."""
        if leaf not in self._leaves:
            self._leaves.appendleft(leaf)
        self.ca_certificates = tuple(ca_certificates)
        self.ca_digests = tuple(identity.ca_digest(certificate).hex() for certificate in self.ca_certificates)
        """Of their keys, hex."""
        self._tls_context = tls.server_context(b"".join(self.ca_certificates), leaf, self._key)
        self._quic_configuration: QuicConfiguration | None = None
        self._was_replaced.set()
        self._was_replaced = asyncio.Event()

    async def replaced(self) -> None:
        """Return when they have been replaced the next time."""
        await self._was_replaced.wait()

    @property
    def leaf(self) -> bytes:
        """Return the certificate that is shown to new connections."""
        return self._leaves[0]

    @property
    def shown_leaves(self) -> tuple[bytes, ...]:
        """Return every leaf that a connection may have seen, the present one first."""
        return tuple(self._leaves)

    @property
    def known_ca_certificate(self) -> bytes:
        """Return the CA that every worker knows and join tokens pin: the oldest."""
        return self.ca_certificates[-1]

    def tls_context(self) -> ssl.SSLContext:
        """Return the context of new TCP connections."""
        return self._tls_context

    def quic_configuration(self) -> QuicConfiguration:
        """Return the configuration of new QUIC connections; raises ImportError where aioquic is missing."""
        from octaskly_quic.configuration import server_configuration

        if self._quic_configuration is None:
            self._quic_configuration = server_configuration(self.leaf, self._key)
        return self._quic_configuration
