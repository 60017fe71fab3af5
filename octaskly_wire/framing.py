"""Frames out of a byte stream: u32 big-endian length of the rest, one byte codec, payload."""

from __future__ import annotations

import struct
from typing import Final

from octaskly_wire.codec import Codec
from octaskly_wire.errors import FrameTooLarge, MalformedFrame

_LENGTH: Final = struct.Struct(">I")
_HEADER: Final = struct.Struct(">IB")


def encode_frame(codec: Codec, payload: bytes) -> bytes:
    """Return the frame that carries this payload."""
    return _HEADER.pack(len(payload) + 1, codec) + payload


class FrameDecoder:
    """Gathers bytes and gives whole frames. `max_frame_bytes` caps a payload and may be raised later."""

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Codec, bytes]]:
        """Return the frames that are complete now.

        Raises FrameTooLarge as soon as a length above the cap is announced, before its bytes are kept, and
        MalformedFrame on an unknown codec or an empty frame.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _HEADER.size:
            length, codec = _HEADER.unpack_from(buffer, start)
            if length < 1:
                raise MalformedFrame("an empty frame")
            if length - 1 > self.max_frame_bytes:
                raise FrameTooLarge(f"{length - 1} bytes announced, {self.max_frame_bytes} allowed")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as whole:  # A slice of the buffer itself would be copied twice.
                frames.append((_codec(codec), bytes(whole[start + _HEADER.size : end])))
            start = end
        del buffer[:start]
        return frames


def _codec(value: int) -> Codec:
    try:
        return Codec(value)
    except ValueError:
        raise MalformedFrame(f"unknown codec {value}") from None
