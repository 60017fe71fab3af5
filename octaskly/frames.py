"""Reads the frames of a followed stream: lines that say where each piece of output belongs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from octaskly.errors import BadAnswer

LONGEST_LINE: Final = 200


class AttemptBegins(msgspec.Struct, frozen=True):
    """What follows is of this attempt."""

    number: int


class Piece(msgspec.Struct, frozen=True):
    """Bytes of the stream, from this offset on."""

    offset: int
    data: bytes


class Gap(msgspec.Struct, frozen=True):
    """So many bytes of the stream cannot be had any more."""

    offset: int
    count: int


class End(msgspec.Struct, frozen=True):
    """The task has ended, and this was all."""


Frame: TypeAlias = AttemptBegins | Piece | Gap | End


class FrameReader:
    """Takes the body as it comes, and hands out what is whole of it; long pieces in the parts in which they come."""

    def __init__(self) -> None:
        self._line = b""
        self._offset = 0
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete, or are a part of."""
        while data:
            if self._missing:
                part, data = data[: self._missing], data[self._missing :]
                yield Piece(self._offset, part)
                self._offset += len(part)
                self._missing -= len(part)
                continue
            head, newline, data = data.partition(b"\n")
            self._line += head
            if len(self._line) > LONGEST_LINE:
                raise _not_understood(self._line)
            if newline:
                line, self._line = self._line, b""
                frame = self._read(line)
                if frame is not None:
                    yield frame

    def _read(self, line: bytes) -> Frame | None:
        match line.split(b" "):
            case [b"attempt", number] if number.isdigit():
                return AttemptBegins(int(number))
            case [b"output", offset, length] if offset.isdigit() and length.isdigit():
                self._offset, self._missing = int(offset), int(length)
                return None
            case [b"gap", offset, count] if offset.isdigit() and count.isdigit():
                return Gap(int(offset), int(count))
            case [b"end", _]:
                return End()
        raise _not_understood(line)


def _not_understood(line: bytes) -> BadAnswer:
    return BadAnswer(f"The server's stream is not understood, from {line[:40]!r} on. Is it an older Octaskly server?")
