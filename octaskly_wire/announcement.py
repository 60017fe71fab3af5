"""The mDNS record <-> a value. The record is an address hint: nothing in it is believed without proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from octaskly_wire.errors import MalformedMessage

SERVICE_TYPE: Final = "_octaskly._tcp.local."
_MAX_PORT: Final = 65_535
_MAX_VALUE: Final = 64


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a dispatcher says of itself on the LAN."""

    cluster_id: str
    port: int
    quic_port: int
    protocol_versions: tuple[int, ...]
    ca_digest_short: str
    """First 8 hex digits of the CA key's digest, for people to compare."""

    def to_txt(self) -> dict[str, str]:
        """Return the TXT record; the TCP port stands in the SRV record."""
        return {
            "cluster": self.cluster_id,
            "versions": ",".join(map(str, self.protocol_versions)),
            "quic": str(self.quic_port),
            "ca": self.ca_digest_short,
        }

    @classmethod
    def from_txt(cls, port: int, txt: Mapping[str, str]) -> Announcement:
        """Return the announcement of a record; raises MalformedMessage when it is none of ours."""
        if any(len(value) > _MAX_VALUE for value in txt.values()):
            raise MalformedMessage("not an Octaskly announcement: a value is too long")
        try:
            found = cls(
                cluster_id=txt["cluster"],
                port=port,
                quic_port=int(txt["quic"]),
                protocol_versions=tuple(int(version) for version in txt["versions"].split(",")),
                ca_digest_short=txt["ca"],
            )
        except (KeyError, ValueError) as error:
            raise MalformedMessage(f"not an Octaskly announcement: {error}") from None
        if not (0 < found.port <= _MAX_PORT and 0 <= found.quic_port <= _MAX_PORT):
            raise MalformedMessage("not an Octaskly announcement: a port is out of range")
        return found
