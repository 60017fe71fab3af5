"""The one line that joins a machine. Its pin makes it safe: whoever answers must have the cluster's server key."""

from __future__ import annotations

from datetime import UTC, datetime

from octaskly_wire.limits import DEFAULT_PORT
from workers_app.cluster import ensure_cluster, recorded_address

UNKNOWN_ADDRESS = f"HOST:{DEFAULT_PORT}"
"""Before the dispatcher has started once; people see that they have to fill it in."""


def join_line(token: str, address: str = "") -> str:
    """Return the line for a token; the address is where the dispatcher was last seen, unless given."""
    pin = ensure_cluster(datetime.now(UTC)).pin
    where = address or recorded_address() or UNKNOWN_ADDRESS
    return f"curl -fsSk --pinnedpubkey '{pin}' https://{where}/join.sh | sh -s -- {token}"
