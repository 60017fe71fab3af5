"""Settings of the engine's shell, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from octaskly_wire.limits import DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class ShellConfig:
    """Where the listeners stand and how they identify the cluster."""

    cluster_id: str
    bind: str = "0.0.0.0"  # noqa: S104 - other machines are to reach it; peers prove themselves
    port: int = DEFAULT_PORT
    quic_port: int = DEFAULT_PORT
    """Of UDP."""
    max_unauthenticated_links: int = 1024
    """Beyond this the oldest of them gives way, so that half-open floods exhaust no memory and keep nobody out.

    As many workers may come back at the same moment after a power cut without driving each other away.
    """
