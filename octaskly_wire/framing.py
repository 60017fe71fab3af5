"""Frames out of a byte stream: u32 big-endian length of the rest, one byte codec, payload."""

from __future__ import annotations

import struct
from typing import Final

from octaskly_wire.codec import Codec
from octaskly_wire.errors import FrameTooLarge, MalformedFrame

_LENGTH: Final = struct.Struct(">I")
_HEADER: Final = struct.Struct(">IB")
_CODECS: Final = {codec.value: codec for codec in Codec}


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
        self._buffer += data
        with memoryview(self._buffer) as whole:
            cut, used_bytes = self.cut(whole)
            frames = [(codec, bytes(payload)) for codec, payload in cut]
            for _, payload in cut:
                payload.release()
        del self._buffer[:used_bytes]
        return frames

    def cut(self, data: memoryview) -> tuple[list[tuple[Codec, memoryview]], int]:
        """Return the whole frames at the beginning of these bytes, as parts of them, and where they end.

        For whoever keeps the rest himself. Raises what `feed` raises.
        """
        frames = []
        start = 0
        while len(data) - start >= _HEADER.size:
            length, codec = _HEADER.unpack_from(data, start)
            if length < 1:
                raise MalformedFrame("an empty frame")
            if length - 1 > self.max_frame_bytes:
                raise FrameTooLarge(f"{length - 1} bytes announced, {self.max_frame_bytes} allowed")
            end = start + _LENGTH.size + length
            if len(data) < end:
                break
            frames.append((_codec(codec), data[start + _HEADER.size : end]))
            start = end
        return frames, start


def _codec(value: int) -> Codec:
    codec = _CODECS.get(value)
    if codec is None:
        raise MalformedFrame(f"unknown codec {value}")
    return codec
