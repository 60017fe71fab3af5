"""HOST:PORT as it stands in URLs and Host headers: what passes is safe to write into a script or a command line."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_IPV6_CHARACTERS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_PORT: Final = re.compile(r"(?::([0-9]{1,5}))?")
_MAX_NAME: Final = 253


class NoAddress(ValueError):
    """The text is no HOST or HOST:PORT."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where a server is reached."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str, default_port: int) -> HostPort:
    """Return the address in a text; an IPv6 address stands in brackets. Raises NoAddress."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        is_host = bool(bracket) and _is_ipv6(host)
    else:
        host, colon, rest = text.partition(":")
        rest = colon + rest
        is_host = len(host) <= _MAX_NAME and _NAME.fullmatch(host) is not None
    port = _PORT.fullmatch(rest)
    if not is_host or port is None or not 0 < int(port[1] or default_port) < 1 << 16:
        raise NoAddress(f"{text[:_MAX_NAME]!r} is not HOST or HOST:PORT")
    return HostPort(host, int(port[1] or default_port))


def _is_ipv6(text: str) -> bool:
    if not _IPV6_CHARACTERS.fullmatch(text):  # The library takes a zone as well, in which anything may stand.
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
