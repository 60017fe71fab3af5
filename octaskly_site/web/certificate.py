"""The web server's certificate: of the cluster's server key, good for this machine's own names."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from dispatcher.shell.beacon import lan_addresses
from octaskly_wire.server_key import make_web_certificate

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
OWN_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What the web server shows and proves."""

    certificate: bytes
    key: EllipticCurvePrivateKey


def make_own(key: EllipticCurvePrivateKey, api_host: str, now: datetime) -> ServerCertificate:
    """Return a new certificate for the names under which this machine is reached."""
    names = dict.fromkeys((*OWN_NAMES, *names_of_machine(api_host)))
    return ServerCertificate(make_web_certificate(key, names, now), key)


def names_of_machine(api_host: str) -> list[str]:
    """Return the host names and addresses by which others may call a web server that listens there."""
    host = socket.gethostname()
    names = [host, f"{host}.local"] if host.isascii() else []
    return [*names, *(lan_addresses() if api_host in ANY_ADDRESS else [api_host])]


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
