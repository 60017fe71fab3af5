"""Contents on a shelf, in the place of a dispatcher: what a worker's cache fetches from, with the faults that a test asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import InputFile
from worker_node.shell.stoppable import Stop


class Shelf:
    """Gives contents by their digest, as `Transfers` does."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(3)
        self.contents: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        """Attempt and offset of each fetch."""
        self.on_chunk: Callable[[int, Stop], None] = lambda _offset, _stop: None
        """Called before each piece; what it raises is what the fetch meets."""

    def put(self, name: str, data: bytes) -> InputFile:
        """Lay a content down and return how an assignment names it."""
        digest = hashlib.sha256(data).hexdigest()
        self.contents[digest] = data
        return InputFile(name, digest, len(data))

    def fetch(self, attempt_id: str, file: InputFile, offset: int, take: Callable[[bytes], None], stop: Stop) -> None:
        """Give a content from an offset on."""
        self.asked.append((attempt_id, offset))
        for start, piece in _pieces(self.contents[file.sha256], offset):
            self.on_chunk(start, stop)
            stop.check()
            take(piece)


def _pieces(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    for start in range(offset, len(data), MAX_CHUNK_BYTES):
        yield start, data[start : start + MAX_CHUNK_BYTES]
