"""What was kept of an ended attempt's stream: looked up once, then read piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO

from accounts_app.plain_sql import read
from octaskly_wire.kept_output import MAX_MARKER_BYTES, MAX_TAIL_BYTES, KeptShape, find_shape
from octaskly_wire.vocabulary import OutputStream
from tasks_app.blob_store import store
from tasks_app.models import OutputKind, TaskOutput
from tasks_app.output_text import SHOWN_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of a stream, after the offset at which they begin."""

    offset: int
    data: bytes
    is_end: bool


class StoredStream:
    """Kept bytes, open to be read. Every method blocks."""

    def __init__(self, kept: BinaryIO, total_bytes: int) -> None:
        self.is_in_memory = isinstance(kept, BytesIO)
        self._kept = kept
        self._kept_bytes = kept.seek(0, SEEK_END)
        self._shape = KeptShape(self._kept_bytes)
        if self._kept_bytes != total_bytes:
            kept.seek(max(0, self._kept_bytes - MAX_TAIL_BYTES - MAX_MARKER_BYTES))
            self._shape = find_shape(kept.read(), self._kept_bytes, total_bytes)

    def read(self, offset: int, max_bytes: int) -> Piece:
        """Return what follows from this offset in the stream on."""
        start, place = self._shape.place_of(offset)
        # A piece ends where the head ends: what follows there is the marker, which is told as a gap.
        end = self._shape.head_bytes if place < self._shape.head_bytes else self._kept_bytes
        self._kept.seek(min(place, self._kept_bytes))
        data = self._kept.read(max(0, min(end - place, max_bytes)))
        return Piece(start, data, is_end=place + len(data) >= self._kept_bytes)

    def close(self) -> None:
        """Let go of the bytes."""
        self._kept.close()


def open_stored(attempt_id: str, stream: OutputStream) -> StoredStream:
    """Return what was kept, nothing when the attempt is gone."""
    rows = read(f"SELECT {stream}, {stream}_bytes FROM results WHERE attempt_id = ?", [attempt_id])  # noqa: S608 - names
    if not rows:
        return StoredStream(BytesIO(), 0)
    kept, total_bytes = rows[0]
    # The ends of a long stream, with what is said between them, are more than this.
    is_whole = len(kept) == total_bytes <= SHOWN_BYTES
    content = None if is_whole else _content_of(attempt_id, stream)
    return StoredStream(content or BytesIO(bytes(kept)), total_bytes)


def _content_of(attempt_id: str, stream: OutputStream) -> BinaryIO | None:
    """Return where long output lies; None when the attempt's row has all that was kept, or the content has expired."""
    stored = TaskOutput.objects.filter(result_id=attempt_id, kind=OutputKind(stream), blob__isnull=False)
    sha256 = stored.values_list("blob_id", flat=True).first()
    if sha256 is None:
        return None
    try:
        return store().open(sha256)
    except FileNotFoundError:
        return None
