"""The cluster's key for TLS servers: its wrapping, its pin, and the certificates that show it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from octaskly_wire import identity, server_key
from octaskly_wire.errors import BadProof

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = server_key.new_server_key()
CA, CA_KEY = identity.make_ca("c1", NOW)


def pin_of_certificate(der: bytes) -> str:
    """Compute the pin as curl does: from the certificate that it is shown."""
    public_key = x509.load_der_x509_certificate(der).public_key()
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(sha256(spki).digest()).decode()


def test_one_pin_holds_for_both_ports_and_every_certificate():
    """The web server's certificate and the dispatcher's of the CA show the same key."""
    web = server_key.make_web_certificate(KEY, ["localhost"], NOW)
    later = server_key.make_web_certificate(KEY, ["elsewhere"], NOW + timedelta(days=1))
    workers = identity.issue_dispatcher_certificate(CA, CA_KEY, "c1", KEY.public_key(), NOW)
    assert {pin_of_certificate(der) for der in (web, later, workers)} == {server_key.pin_of(KEY)}
    assert server_key.pin_of(server_key.new_server_key()) != server_key.pin_of(KEY)


def test_the_web_certificate_names_hosts_and_addresses_and_signs_nothing():
    """A browser finds the name it called; whoever trusts it trusts no other certificate by that."""
    certificate = x509.load_der_x509_certificate(server_key.make_web_certificate(KEY, ["pc.local", "::1"], NOW))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pc.local"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("::1")]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.not_valid_after_utc - NOW <= timedelta(days=398)


def test_the_key_opens_with_its_secret_only():
    """The wrapped key is of no use without the secret key, and one wrapped for another purpose is refused."""
    blob = server_key.wrap_server_key(KEY, b"k" * 32)
    assert server_key.pin_of(server_key.unwrap_server_key(blob, b"k" * 32)) == server_key.pin_of(KEY)
    for wrong, secret in ((blob, b"x" * 32), (identity.wrap_key(CA_KEY, b"k" * 32), b"k" * 32), (b"", b"k" * 32)):
        with pytest.raises(BadProof):
            server_key.unwrap_server_key(wrong, secret)
