"""TLS in front of the web server, and a plain word to those who speak HTTP to it."""

from __future__ import annotations

from typing import Any, cast

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from octaskly_site.web.certificate import ServerCertificate

HANDSHAKE_RECORD = b"\x16"
_TEXT = b"This port speaks HTTPS. Write https:// in front of the address.\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    % len(_TEXT)
) + _TEXT


def behind_tls(factory: Any, own: ServerCertificate) -> TLSMemoryBIOFactory:
    """Return a factory of TLS connections in front of another factory's."""
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(own.key),
        certificate=crypto.X509.from_cryptography(x509.load_der_x509_certificate(own.certificate)),
    )
    # The process is pinned to TLS 1.3 for the links of workers; some browsers and curls of today have no more than this.
    options.getContext().set_min_proto_version(SSL.TLS1_2_VERSION)
    wrapper = _TlsFactory(cast("Any", options), False, factory)
    wrapper.protocol = _TlsConnection
    return wrapper


class _TlsFactory(TLSMemoryBIOFactory):
    """Makes no connection where the other factory makes none; Twisted's own would wrap that nothing, and keep it open."""

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802 - Twisted's name
        within = cast("Any", self.wrappedFactory).buildProtocol(addr)
        return None if within is None else self.protocol(self, within)


class _TlsConnection(BufferingTLSTransport):
    """A connection that looks at its first byte."""

    _has_begun = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        if not self._has_begun:
            self._has_begun = True
            if not data.startswith(HANDSHAKE_RECORD):
                plain = cast("Any", self.transport)
                plain.write(PLAIN_ANSWER)
                plain.loseConnection()
                return
        super().dataReceived(data)
