"""New Reno with a bound: what is on its way stays short, so that a heartbeat is never long behind a file.

The library's windows grow as long as nothing is lost, and on a LAN nothing is: megabytes would stand in the buffers of
the receiver's socket, ahead of every small message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.congestion.reno import RenoCongestionControl

if TYPE_CHECKING:
    from aioquic.quic.packet_builder import QuicSentPacket

MAX_FLIGHT_BYTES: Final = 512 << 10
"""Of a connection: more than goes through Python in the round trip of a LAN, and 10 MB/s at one of 50 ms."""

ALGORITHM: Final = "octaskly"


class BoundedReno(RenoCongestionControl):
    """New Reno that never lets more than so many bytes be on their way."""

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Grow, up to the bound."""
        super().on_packet_acked(now=now, packet=packet)
        self.congestion_window = min(self.congestion_window, MAX_FLIGHT_BYTES)


register_congestion_control(ALGORITHM, BoundedReno)
