"""How the kept head and tail of an output stream are joined, and told apart again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_TAIL_BYTES: Final = 512 << 10
"""What is kept of a stream's end, however much is kept of its beginning: the marker is never further from the end."""

MAX_MARKER_BYTES: Final = 80


@dataclass(frozen=True, slots=True)
class KeptShape:
    """Where the parts of kept output lie: `head_bytes`, then the marker, then the tail up to the end."""

    head_bytes: int
    marker_bytes: int = 0
    left_out: int = 0

    def place_of(self, offset: int) -> tuple[int, int]:
        """Return for an offset in the stream the next offset that was kept, and its place in the kept bytes."""
        if offset < self.head_bytes or not self.left_out:
            return offset, offset
        tail_starts_at = self.head_bytes + self.left_out
        start = max(offset, tail_starts_at)
        return start, self.head_bytes + self.marker_bytes + start - tail_starts_at


def marker(left_out: int) -> bytes:
    """Return the line that stands for bytes that were not kept."""
    return b"\n[... %d bytes left out ...]\n" % left_out


def find_shape(end: bytes, kept_bytes: int, total_bytes: int) -> KeptShape:
    """Return the shape of kept output, of which `end` is the last MAX_TAIL_BYTES + MAX_MARKER_BYTES, or all.

    The marker is found by its text, which follows from the two lengths: head, marker and tail are the kept bytes, and
    head, what it counts and tail are all bytes. Where a digit more makes it a byte longer, two texts would do.
    """
    for marker_bytes in range(len(marker(0)), MAX_MARKER_BYTES):
        text = marker(total_bytes - kept_bytes + marker_bytes)
        place = end.find(text) if len(text) == marker_bytes else -1
        if place >= 0:
            head_bytes = kept_bytes - len(end) + place
            return KeptShape(head_bytes, marker_bytes, total_bytes - kept_bytes + marker_bytes)
    return KeptShape(kept_bytes)
