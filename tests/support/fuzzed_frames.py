"""Frames as a hostile peer may send them: wrong lengths, cut off, deep, no UTF-8, damaged, out of place, in both codecs."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from octaskly_wire.codec import Codec, encode
from octaskly_wire.framing import encode_frame
from octaskly_wire.limits import MAX_FRAME_BYTES, MAX_UNAUTHENTICATED_FRAME_BYTES

LENGTHS = [
    0, 1, 2, MAX_UNAUTHENTICATED_FRAME_BYTES + 1, MAX_UNAUTHENTICATED_FRAME_BYTES + 2, MAX_FRAME_BYTES + 1,
    MAX_FRAME_BYTES + 2, 1 << 31, (1 << 32) - 1,
]  # fmt: skip
NO_UTF8 = [b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]
DEPTHS = [10, 100, 1000, 8000]
ODD_NUMBERS: list[Any] = [-1, 2**63, 2**64, -(2**63), 1e308, float("nan"), float("inf"), True, None, "1", [], {}]


class Fuzzer:
    """Makes hostile bytes out of good messages, the same ones for the same seed."""

    def __init__(self, messages: Sequence[Any], seed: int) -> None:
        self._random = random.Random(seed)
        self._payloads = {codec: [encode(message, codec) for message in messages] for codec in Codec}
        self._ways: list[Callable[[], bytes]] = [
            self._wrong_length, self._cut_off, self._deep, self._no_utf8, self._damaged, self._damaged, self._odd_value,
            self._other_codec, self._noise, self._out_of_place,
        ]  # fmt: skip

    def __call__(self) -> bytes:
        """Return the next bytes; most are no good message, some are one in the wrong place."""
        return self._random.choice(self._ways)()

    def cut(self, data: bytes) -> list[bytes]:
        """Return the bytes in the pieces in which they happen to arrive."""
        places = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.randrange(4)))
        return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]

    def _pick(self) -> tuple[Codec, bytes]:
        codec = self._random.choice(list(Codec))
        return codec, self._random.choice(self._payloads[codec])

    def _wrong_length(self) -> bytes:
        codec, payload = self._pick()
        return struct.pack(">IB", self._random.choice(LENGTHS), codec) + payload

    def _cut_off(self) -> bytes:
        frame = encode_frame(*self._pick())
        return frame[: self._random.randrange(len(frame))]

    def _deep(self) -> bytes:
        depth = self._random.choice(DEPTHS)
        codec, opening = self._random.choice([(Codec.JSON, b"["), (Codec.JSON, b'{"a":'), (Codec.MSGPACK, b"\x91")])
        return encode_frame(codec, opening * depth)

    def _no_utf8(self) -> bytes:
        bad = self._random.choice(NO_UTF8)
        if self._random.random() < 0.5:
            return encode_frame(Codec.JSON, b'{"type":"' + bad + b'"}')
        return encode_frame(Codec.MSGPACK, b"\x81\xa4type" + bytes([0xA0 | len(bad)]) + bad)

    def _damaged(self) -> bytes:
        codec, payload = self._pick()
        damaged = bytearray(payload)
        for _ in range(self._random.randint(1, 4)):
            damaged[self._random.randrange(len(damaged))] = self._random.randrange(256)
        return encode_frame(codec, bytes(damaged))

    def _odd_value(self) -> bytes:
        body = json.loads(self._random.choice(self._payloads[Codec.JSON]))
        name = self._random.choice([*body, "unknown"])
        body[name] = self._random.choice(ODD_NUMBERS)
        return encode_frame(Codec.JSON, json.dumps(body).encode())

    def _other_codec(self) -> bytes:
        _, payload = self._pick()
        return struct.pack(">IB", len(payload) + 1, self._random.randrange(256)) + payload

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1, 300))

    def _out_of_place(self) -> bytes:
        return encode_frame(*self._pick())
