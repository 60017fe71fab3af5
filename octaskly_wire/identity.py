"""Keys and certificates: the cluster's CA, the dispatcher's and the workers' leaves, and what proves a worker.

The CA's and the workers' keys are Ed25519, the dispatcher's own for TLS is of `server_key`. The CA signs leaves directly.
From a certificate request only the public key is used: a peer never chooses a name, a role or a lifetime.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from octaskly_wire.errors import BadProof

CA_LIFETIME: Final = timedelta(days=3650)
DISPATCHER_LIFETIME: Final = timedelta(days=90)
WORKER_LIFETIME: Final = timedelta(days=30)
BACKDATED: Final = timedelta(hours=1)
"""Certificates begin a little in the past: clocks on a LAN differ."""

_NONCE_BYTES: Final = 12
_WRAP_LABEL: Final = b"octaskly ca key v1"


# --- keys ------------------------------------------------------------------------------------------


def new_key() -> Ed25519PrivateKey:
    """Return a fresh private key."""
    return Ed25519PrivateKey.generate()


def key_to_pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    """Return the unencrypted PEM; whoever writes it sees to mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_pem(pem: bytes) -> Ed25519PrivateKey:
    """Return the key; raises BadProof when it is no Ed25519 key."""
    try:
        key = load_pem_private_key(pem, password=None)
    except ValueError as error:
        raise BadProof(f"no private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadProof("not an Ed25519 key")
    return key


def public_key_sha256(public_key: Ed25519PublicKey) -> str:
    """Return the hex SHA-256 of the key's SubjectPublicKeyInfo: the worker's entry on the whitelist."""
    return sha256(_spki(public_key)).hexdigest()


def wrap_key(key: Ed25519PrivateKey, wrapping_key: bytes) -> bytes:
    """Return the private key under AES-256-GCM, nonce first."""
    nonce = os.urandom(_NONCE_BYTES)  # noqa: TID251 - a nonce must never be chosen by a caller
    return nonce + AESGCM(wrapping_key).encrypt(nonce, key.private_bytes_raw(), _WRAP_LABEL)


def unwrap_key(blob: bytes, wrapping_key: bytes) -> Ed25519PrivateKey:
    """Return the private key; raises BadProof under another wrapping key."""
    try:
        raw = AESGCM(wrapping_key).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], _WRAP_LABEL)
    except (InvalidTag, ValueError):
        raise BadProof("the key was wrapped with another secret") from None
    return Ed25519PrivateKey.from_private_bytes(raw)


def _spki(public_key: Ed25519PublicKey) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# --- the CA and its leaves -------------------------------------------------------------------------


def make_ca(cluster_id: str, now: datetime) -> tuple[bytes, Ed25519PrivateKey]:
    """Return a new CA: certificate (DER) and key. It may sign leaves, not further CAs."""
    key = new_key()
    name = _name(f"Octaskly CA {cluster_id}")
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER), key


def ca_digest(ca_certificate: bytes) -> bytes:
    """Return the SHA-256 of the CA's public key: the pin in join tokens."""
    public_key = _load(ca_certificate).public_key()
    if not isinstance(public_key, Ed25519PublicKey):
        raise BadProof("the CA's key is not Ed25519")
    return sha256(_spki(public_key)).digest()


def dispatcher_server_name(cluster_id: str) -> str:
    """Return the only name a worker accepts for its dispatcher; never an address or an mDNS name."""
    return f"dispatcher.{cluster_id}.octaskly.internal"


def worker_uri(cluster_id: str, worker_id: str) -> str:
    """Return the one name in a worker's certificate."""
    return f"octaskly://{cluster_id}/worker/{worker_id}"


def issue_dispatcher_certificate(
    ca_certificate: bytes,
    ca_key: Ed25519PrivateKey,
    cluster_id: str,
    public_key: Ed25519PublicKey | EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta = DISPATCHER_LIFETIME,
) -> bytes:
    """Return a certificate (DER) good for serving as this cluster's dispatcher, and for nothing else."""
    san = x509.DNSName(dispatcher_server_name(cluster_id))
    return _issue_leaf(ca_certificate, ca_key, san, public_key, ExtendedKeyUsageOID.SERVER_AUTH, now, lifetime)


def issue_worker_certificate(
    ca_certificate: bytes,
    ca_key: Ed25519PrivateKey,
    cluster_id: str,
    worker_id: str,
    public_key: Ed25519PublicKey,
    now: datetime,
    lifetime: timedelta = WORKER_LIFETIME,
) -> bytes:
    """Return a certificate (DER) good for being this worker, and for nothing else."""
    san = x509.UniformResourceIdentifier(worker_uri(cluster_id, worker_id))
    return _issue_leaf(ca_certificate, ca_key, san, public_key, ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)


def certificate_expires_at(certificate: bytes) -> datetime:
    """Return the moment after which a certificate is refused, in UTC."""
    return _load(certificate).not_valid_after_utc


def certificate_life(certificate: bytes) -> tuple[datetime, datetime]:
    """Return when a certificate of ours was made and when it ends, in UTC; raises BadProof."""
    loaded = _load(certificate)
    return loaded.not_valid_before_utc + BACKDATED, loaded.not_valid_after_utc


def certificate_sha256(certificate: bytes) -> str:
    """Return the hex SHA-256 by which two ends speak of a certificate."""
    return sha256(certificate).hexdigest()


def issuer_among(certificate_der: bytes, ca_certificates: Iterable[bytes]) -> bytes:
    """Return the one of these CAs that signed a certificate; raises BadProof when none of them did."""
    certificate = _load(certificate_der)
    for ca_certificate in ca_certificates:
        try:
            certificate.verify_directly_issued_by(_load(ca_certificate))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return ca_certificate
    raise BadProof("the certificate is not of this cluster")


def _issue_leaf(
    ca_certificate: bytes,
    ca_key: Ed25519PrivateKey,
    san: x509.GeneralName,
    public_key: Ed25519PublicKey | EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    now: datetime,
    lifetime: timedelta,
) -> bytes:
    issuer = _load(ca_certificate)
    ca_public_key = ca_key.public_key()
    certificate = (
        _builder(_name("Octaskly"), issuer.subject, public_key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(x509.SubjectAlternativeName([san]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public_key), critical=False)
        .sign(ca_key, None)
    )
    return certificate.public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Ed25519PublicKey | EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# --- requests and proofs ---------------------------------------------------------------------------


def make_certificate_request(key: Ed25519PrivateKey) -> bytes:
    """Return a certificate request (DER) that proves possession of the key and asks for no name."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("octaskly worker")).sign(key, None)
    return request.public_bytes(Encoding.DER)


def public_key_of_request(request_der: bytes) -> Ed25519PublicKey:
    """Return the public key whose owner signed the request; raises BadProof otherwise."""
    try:
        request = x509.load_der_x509_csr(request_der)
        is_signed = request.is_signature_valid
        public_key = request.public_key()
    except Exception as error:  # noqa: BLE001 - a hostile DER can raise more kinds than are documented
        raise BadProof(f"no certificate request: {type(error).__name__}") from None
    if not is_signed:
        raise BadProof("the certificate request's signature is wrong")
    if not isinstance(public_key, Ed25519PublicKey):
        raise BadProof("the certificate request's key is not Ed25519")
    return public_key


def check_worker_certificate(
    certificate_der: bytes, ca_certificates: Iterable[bytes], cluster_id: str, worker_id: str, now: datetime
) -> Ed25519PublicKey:
    """Return the certificate's public key; raises BadProof unless one of these CAs made it for exactly this worker."""
    name = x509.UniformResourceIdentifier(worker_uri(cluster_id, worker_id))
    _check_leaf(certificate_der, ca_certificates, ExtendedKeyUsageOID.CLIENT_AUTH, name, "worker", now)
    public_key = _load(certificate_der).public_key()
    if not isinstance(public_key, Ed25519PublicKey):
        raise BadProof("the certificate's key is not Ed25519")
    return public_key


def check_dispatcher_certificate(
    certificate_der: bytes, ca_certificates: Iterable[bytes], server_name: str, now: datetime
) -> None:
    """Raise BadProof unless one of these CAs made the certificate for serving under exactly this name."""
    name = x509.DNSName(server_name)
    _check_leaf(certificate_der, ca_certificates, ExtendedKeyUsageOID.SERVER_AUTH, name, "dispatcher", now)


def _check_leaf(
    certificate_der: bytes,
    ca_certificates: Iterable[bytes],
    usage: x509.ObjectIdentifier,
    name: x509.GeneralName,
    role: str,
    now: datetime,
) -> None:
    """Raise BadProof unless the certificate is of one of the CAs, valid, for this use only, and under this name only.

    The library's path verifier refuses Ed25519, and no path is needed: the CA signs leaves directly.
    """
    issuer_among(certificate_der, ca_certificates)
    certificate = _load(certificate_der)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise BadProof("the certificate is expired or not yet valid")
    try:
        usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise BadProof("the certificate does not say whose it is") from None
    if usages != [usage]:
        raise BadProof(f"the certificate is not for a {role}")
    if names != [name]:
        raise BadProof(f"the certificate is for another {role}")


def _load(certificate_der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except Exception as error:  # noqa: BLE001 - a hostile DER can raise more kinds than are documented
        raise BadProof(f"no certificate: {type(error).__name__}") from None
