"""Keep the head and the tail of an output stream of any length in bounded memory, and let it be read meanwhile.

Theory of operation. The head is what comes first, up to a cap; of what follows the last part is kept. A head that gets
long moves to a file, where there is one to be had; the tail stays in memory, so that the file is only ever added to.
When the disk fails, a little of each end goes on in memory, as if there had never been a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from octaskly_wire.kept_output import MAX_MARKER_BYTES, MAX_TAIL_BYTES, marker
from octaskly_wire.limits import MAX_CHUNKED_OUTPUT_BYTES, MAX_INLINE_OUTPUT_BYTES
from octaskly_wire.vocabulary import OutputStream
from worker_node.core.outcome import NOTHING_KEPT, KeptOutput
from worker_node.shell.spill import SpillFile

logger = logging.getLogger(__name__)

MEMORY_BYTES: Final = MAX_CHUNKED_OUTPUT_BYTES
"""So much of a stream is kept without a file, half of it from each end."""


@dataclass(frozen=True, slots=True)
class LongOutput:
    """Kept output that lies in a file, from its beginning on."""

    file: SpillFile
    kept_bytes: int
    ends: KeptOutput
    """A little of it, for whoever cannot have it all."""


class Captures:
    """Both streams of one command. A stream is captured from its first byte or reader on: most commands write little."""

    __slots__ = ("_by_stream", "_max_bytes", "_new_file", "is_over")

    def __init__(self, max_bytes: int = MEMORY_BYTES, new_file: Callable[[], SpillFile] | None = None) -> None:
        """Capture each stream with these arguments."""
        self._max_bytes = max_bytes
        self._new_file = new_file
        self._by_stream: dict[OutputStream, Capture] = {}
        self.is_over = False
        """Nothing more comes."""

    def of(self, stream: OutputStream) -> Capture:
        """Return what takes this stream."""
        capture = self._by_stream.get(stream)
        if capture is None:
            capture = self._by_stream[stream] = Capture(self._max_bytes, self._new_file)
        return capture

    @property
    def is_long(self) -> bool:
        """Whether a part of a stream lies in a file."""
        return any(capture.is_long for capture in self._by_stream.values())

    def kept_in_memory(self, stream: OutputStream) -> KeptOutput:
        """Return what was kept of a stream, no more of it than without a file."""
        capture = self._by_stream.get(stream)
        return NOTHING_KEPT if capture is None else capture.finish_in_memory()


class Capture:
    """Takes all of one stream; keeps its first and last bytes and counts the rest."""

    def __init__(self, max_bytes: int = MEMORY_BYTES, new_file: Callable[[], SpillFile] | None = None) -> None:
        """Keep at most so many bytes, the marker line between head and tail included."""
        self._head = bytearray()
        self._tail = bytearray()
        self._file: SpillFile | None = None
        self._head_bytes = 0
        self._new_file = new_file if max_bytes > MEMORY_BYTES else None
        self._max_bytes = max_bytes if self._new_file else min(max_bytes, MEMORY_BYTES)
        tail_bytes = MAX_TAIL_BYTES + MAX_MARKER_BYTES if self._new_file else (self._max_bytes + 1) // 2
        self._max_head = self._max_bytes - tail_bytes
        self._max_tail = tail_bytes
        self.total_bytes = 0
        self.on_growth: Callable[[], None] | None = None
        """Called after each piece; None while nobody watches, so that a flood costs nothing more then."""

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self.total_bytes += len(data)
        room = self._max_head - self._head_bytes
        if room > 0:
            try:
                self._add_to_head(data[:room])
                data = data[room:]
            except OSError as error:
                logger.warning("Of long output only its ends are kept: %s", error)
                self._do_without_file()
        self._tail += data
        # Cut seldom, so that a flood costs one copy a half MiB instead of one a read.
        if len(self._tail) > 2 * self._max_tail:
            del self._tail[: -self._max_tail]
        if self.on_growth is not None:
            self.on_growth()

    def read(self, offset: int, max_bytes: int) -> tuple[int, bytes]:
        """Return the next bytes that are still here from this offset on, after the offset at which they begin."""
        if offset < self._head_bytes:
            return offset, self._read_head(offset, min(max_bytes, self._head_bytes - offset))
        tail_starts_at = self.total_bytes - len(self._tail)
        start = max(offset, tail_starts_at)
        place = start - tail_starts_at
        return start, bytes(memoryview(self._tail)[place : place + max_bytes])

    @property
    def is_long(self) -> bool:
        """Whether a part of it lies in a file."""
        return self._file is not None

    def finish(self) -> KeptOutput | LongOutput:
        """Return what was kept. A long output stays readable."""
        if self._file is not None:
            try:
                end = self._end()
                self._file.write(self._head_bytes, end)
                return LongOutput(self._file, self._head_bytes + len(end), self._ends())
            except OSError as error:
                logger.warning("Of long output only its ends are kept: %s", error)
                self._do_without_file()
        return self.finish_in_memory()

    def finish_in_memory(self) -> KeptOutput:
        """Return no more than what is kept without a file."""
        if self._file is not None:
            self._do_without_file()
        return KeptOutput(bytes(self._head) + self._end(), self.total_bytes, is_truncated=self._is_truncated)

    @property
    def _is_truncated(self) -> bool:
        return self.total_bytes > self._max_bytes

    def _end(self) -> bytes:
        """Return what follows the head in what is kept."""
        if not self._is_truncated:
            return bytes(self._tail)
        tail_bytes = self._max_tail - MAX_MARKER_BYTES
        return marker(self.total_bytes - self._head_bytes - tail_bytes) + bytes(self._tail[-tail_bytes:])

    def _ends(self) -> KeptOutput:
        half = MAX_INLINE_OUTPUT_BYTES // 2 - MAX_MARKER_BYTES
        last = bytes(self._tail[-half:])
        missing = half - len(last)
        last = self._read_head(self._head_bytes - missing, missing) + last
        data = self._read_head(0, half) + marker(self.total_bytes - 2 * half) + last
        return KeptOutput(data, self.total_bytes, is_truncated=True)

    def _add_to_head(self, data: bytes) -> None:
        if self._file is None and self._new_file is not None and self._head_bytes + len(data) > MEMORY_BYTES:
            file = self._new_file()
            file.write(0, self._head)
            self._file, self._head = file, bytearray()
        if self._file is not None:
            self._file.write(self._head_bytes, data)
        else:
            self._head += data
        self._head_bytes += len(data)

    def _read_head(self, place: int, count: int) -> bytes:
        if self._file is not None:
            return self._file.read(place, count)
        return bytes(memoryview(self._head)[place : place + count])

    def _do_without_file(self) -> None:
        """Keep in memory what would be there without a file; called while the head is not full, or at the end."""
        half = MEMORY_BYTES // 2
        if (missing := half - len(self._tail)) > 0:
            start = max(half, self._head_bytes - missing)
            self._tail[:0] = self._read_head(start, self._head_bytes - start)
        self._head = bytearray(self._read_head(0, half))
        self._head_bytes = len(self._head)
        self._file = self._new_file = None
        self._max_bytes, self._max_head, self._max_tail = MEMORY_BYTES, half, half
