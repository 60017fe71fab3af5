"""Where a map's values come from: lists that are known, or a stream that is read as it comes."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from octaskly.errors import BadFile

PIECE_BYTES = 1 << 16
STDIN = 0


class Values:
    """Values in turn, each a tuple with one of every list."""

    def __init__(self, listed: Iterator[tuple[str, ...]], *, places: int, total: int | None) -> None:
        self.listed = listed
        self.places = places
        self.total = total
        """None: nobody knows how many will come, nor when."""
        self._arrived: asyncio.Queue[tuple[str, ...] | Exception | None] | None = None

    async def take(self, most: int) -> list[tuple[str, ...]]:
        """Return the next values, at least one; none at the end."""
        if self.total is not None:
            return list(itertools.islice(self.listed, most))
        if self._arrived is None:
            self._arrived = asyncio.Queue()
            # A daemon: nobody can wake a thread that waits for a terminal or a pipe.
            reader = threading.Thread(target=self._read, args=(asyncio.get_running_loop(), self._arrived), daemon=True)
            reader.start()
        found: list[tuple[str, ...]] = []
        while len(found) < most and not (found and self._arrived.empty()):
            value = await self._arrived.get()
            if isinstance(value, Exception):
                raise value
            if value is None:
                self._arrived.put_nowait(None)
                break
            found.append(value)
        return found

    def _read(
        self, loop: asyncio.AbstractEventLoop, arrived: asyncio.Queue[tuple[str, ...] | Exception | None]
    ) -> None:
        try:
            for value in self.listed:
                loop.call_soon_threadsafe(arrived.put_nowait, value)
            loop.call_soon_threadsafe(arrived.put_nowait, None)
        except BadFile as error:
            loop.call_soon_threadsafe(arrived.put_nowait, error)
        except RuntimeError:
            return  # The loop has ended before the values did.


def lines(name: str, ends: bytes) -> Iterator[str]:
    """Yield the values of a file, or of stdin for `-`; undecodable bytes as a shell's arguments have them."""
    rest = b""
    try:
        # Unbuffered: a buffer's lock, held by a thread that waits, would stop the interpreter's end.
        with open(STDIN if name == "-" else name, "rb", buffering=0, closefd=name != "-") as file:
            while piece := file.read(PIECE_BYTES):
                *whole, rest = (rest + piece).split(ends)
                for value in whole:
                    yield _text(value, ends)
    except OSError as error:
        raise BadFile(f"Cannot read {name}: {error.strerror}") from error
    if rest:
        yield _text(rest, ends)


def is_whole(name: str) -> bool:
    """Return whether the source is an ordinary file, whose end is there already."""
    try:
        status = os.fstat(STDIN) if name == "-" else Path(name).stat()
    except OSError as error:
        raise BadFile(f"Cannot read {name}: {error.strerror}") from error
    return stat.S_ISREG(status.st_mode)


def _text(value: bytes, ends: bytes) -> str:
    if ends == b"\n":
        value = value.removesuffix(b"\r")
    return value.decode("utf-8", "surrogateescape")
