"""Keep the head and the tail of an output stream of any length in bounded memory."""

from __future__ import annotations

from octaskly_wire.limits import MAX_OUTPUT_BYTES
from worker_node.core.outcome import KeptOutput

_MARKER_ROOM = 80


class Capture:
    """Takes all of one stream; keeps its first and last half MiB and counts the rest."""

    def __init__(self, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """Keep at most so many bytes, the marker line between head and tail included."""
        self._head = bytearray()
        self._tail = bytearray()
        self._max_bytes = max_bytes
        self._max_head = max_bytes // 2
        self.total_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self.total_bytes += len(data)
        room = self._max_head - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        # Cut seldom, so that a flood costs one copy a half MiB instead of one a read.
        if len(self._tail) > 2 * self._max_head:
            del self._tail[: -self._max_head]

    def finish(self) -> KeptOutput:
        """Return what was kept."""
        if self.total_bytes <= self._max_bytes:
            return KeptOutput(bytes(self._head + self._tail), self.total_bytes)
        max_tail = self._max_bytes - self._max_head - _MARKER_ROOM
        left_out = self.total_bytes - len(self._head) - max_tail
        marker = b"\n[... %d bytes left out ...]\n" % left_out
        data = bytes(self._head) + marker + bytes(self._tail[-max_tail:])
        return KeptOutput(data, self.total_bytes, is_truncated=True)
