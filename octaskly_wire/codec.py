"""Message <-> bytes, in MessagePack or JSON. Both give identical messages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar

import msgspec

from octaskly_wire.errors import MalformedMessage
from octaskly_wire.messages import AttemptFinished, FromWorker, Heartbeat, ToWorker, Welcome

T = TypeVar("T")


class Codec(IntEnum):
    """How a frame's payload is written; the value stands in the frame."""

    MSGPACK = 1
    JSON = 2


_PATTERN: Final = re.compile(r"matching regex '.*'(?= - at |\Z)", re.DOTALL)
"""How msgspec tells of a text with other characters; people cannot read that."""

_FLOATS_OF: Final[dict[type, Callable[[Any], tuple[float, ...]]]] = {
    AttemptFinished: lambda message: (message.report.cpu_seconds,),
    Heartbeat: lambda message: (message.vitals.cpu_percent, message.vitals.load_1m),
    Welcome: lambda message: (message.heartbeat_interval_s, message.lease_s),
}
"""Free floats of the messages that have some. MessagePack can carry NaN, which JSON and the tables cannot."""

_MSGPACK_ENCODER: Final = msgspec.msgpack.Encoder()
_JSON_ENCODER: Final = msgspec.json.Encoder()


class _Decoder(Generic[T]):
    """Reads one family of messages in either codec."""

    def __init__(self, family: Any) -> None:
        self._msgpack: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(family)
        self._json: msgspec.json.Decoder[T] = msgspec.json.Decoder(family)

    def decode(self, payload: bytes | memoryview, codec: Codec) -> T:
        try:
            message = (self._msgpack if codec is Codec.MSGPACK else self._json).decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # The payload itself never goes into the text: it may carry a secret and ends in a log.
            raise MalformedMessage(_PATTERN.sub("of allowed characters", str(error))) from None
        if floats_of := _FLOATS_OF.get(type(message)):
            for number in floats_of(message):
                if not math.isfinite(number):
                    raise MalformedMessage("a number is not finite")
        return message


_FROM_WORKER: Final[_Decoder[FromWorker]] = _Decoder(FromWorker)
_TO_WORKER: Final[_Decoder[ToWorker]] = _Decoder(ToWorker)


def encode(message: FromWorker | ToWorker, codec: Codec) -> bytes:
    """Return the payload of a message."""
    return _MSGPACK_ENCODER.encode(message) if codec is Codec.MSGPACK else _JSON_ENCODER.encode(message)


def decode_from_worker(payload: bytes | memoryview, codec: Codec) -> FromWorker:
    """Return the worker's message; raises MalformedMessage when the schema refuses it.

    The schema has no free-form field, so it also bounds how deep a message can nest.
    """
    return _FROM_WORKER.decode(payload, codec)


def decode_to_worker(payload: bytes | memoryview, codec: Codec) -> ToWorker:
    """Return the dispatcher's message; raises MalformedMessage when the schema refuses it."""
    return _TO_WORKER.decode(payload, codec)
