"""Checks what a QUIC server showed of itself: the library looks at chain and name, but not at what a certificate is for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from octaskly_wire.errors import BadProof


def check_server_certificate(
    certificate: x509.Certificate, trusted: Sequence[x509.Certificate], server_name: str, now: datetime
) -> None:
    """Raise BadProof unless one of the CAs itself made the certificate for serving under exactly this name."""
    if not any(_is_issued_by(certificate, authority) for authority in trusted):
        raise BadProof("the dispatcher's certificate is not of this cluster")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise BadProof("the dispatcher's certificate is expired or not yet valid")
    try:
        usage = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise BadProof("the dispatcher's certificate does not say what it is for") from None
    if usage != [ExtendedKeyUsageOID.SERVER_AUTH]:
        raise BadProof("the certificate is not for a dispatcher")
    if names != [x509.DNSName(server_name)]:
        raise BadProof("the certificate is for another dispatcher")


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
