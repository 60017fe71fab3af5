"""Messages on the wire: recorded frames, both codecs, any split of the stream, and garbage."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octaskly_wire.codec import Codec, decode_from_worker, decode_to_worker, encode
from octaskly_wire.errors import FrameTooLarge, MalformedFrame, MalformedMessage, WireError
from octaskly_wire.framing import FrameDecoder, encode_frame
from octaskly_wire.limits import MAX_FRAME_BYTES
from octaskly_wire.messages import AttemptFinished, FromWorker, Heartbeat, Limits, Register, ToWorker, Vitals
from tests.support.messages import FROM_WORKER, TO_WORKER

GOLDEN = Path(__file__).parents[2] / "golden" / "v1"
BOTH = [(Codec.MSGPACK, "bin"), (Codec.JSON, "json")]


READERS = [
    *((message, decode_from_worker) for message in FROM_WORKER),
    *((message, decode_to_worker) for message in TO_WORKER),
]
"""Each sample with its family's reader; what goes both ways is in both."""


def test_every_message_has_a_sample():
    """A new message cannot be forgotten here."""
    assert {type(message) for message in FROM_WORKER} == set(get_args(FromWorker))
    assert {type(message) for message in TO_WORKER} == set(get_args(ToWorker))


@pytest.mark.parametrize(("codec", "suffix"), BOTH)
@pytest.mark.parametrize(
    ("message", "reader"), READERS, ids=[f"{type(message).__name__}-{reader.__name__}" for message, reader in READERS]
)
def test_frames_are_as_recorded(message, reader, codec, suffix):
    """What version 1 puts on the wire never changes, and is read back as the same message."""
    recorded = (GOLDEN / f"{type(message).__name__}.{suffix}").read_bytes()
    assert encode_frame(codec, encode(message, codec)) == recorded
    ((read_codec, payload),) = FrameDecoder(MAX_FRAME_BYTES).feed(recorded)
    assert read_codec is codec
    assert reader(payload, codec) == message


@given(st.lists(st.sampled_from(READERS), max_size=8), st.data())
def test_stream_may_be_split_anywhere(samples, data):
    """However the network cuts the stream, the same frames come out."""
    stream = b"".join(encode_frame(Codec.MSGPACK, encode(message, Codec.MSGPACK)) for message, _ in samples)
    decoder, frames = FrameDecoder(MAX_FRAME_BYTES), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        frames += decoder.feed(stream[:size])
        stream = stream[size:]
    read = [reader(payload, codec) for (_, reader), (codec, payload) in zip(samples, frames, strict=True)]
    assert read == [message for message, _ in samples]


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_wire_errors(data):
    """Bytes from a stranger end in a refusal, never in a crash."""
    try:
        for codec, payload in FrameDecoder(4096).feed(data):
            decode_from_worker(payload, codec)
    except WireError:
        pass


@given(st.sampled_from(FROM_WORKER), st.sampled_from(list(Codec)), st.data())
def test_damaged_messages_raise_nothing_but_wire_errors(message, codec, data):
    """A message with one byte changed is read as some message or refused."""
    payload = bytearray(encode(message, codec))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        decode_from_worker(bytes(payload), codec)


def test_large_frame_is_refused_before_it_is_kept():
    """The announced length alone decides; a memory attack needs no answer."""
    with pytest.raises(FrameTooLarge):
        FrameDecoder(100).feed((102).to_bytes(4, "big") + b"\x01")


@pytest.mark.parametrize("data", [bytes(8), (1).to_bytes(4, "big") + b"\x09"])
def test_empty_frame_and_unknown_codec_are_refused(data):
    """Neither is a frame of this protocol."""
    with pytest.raises(MalformedFrame):
        FrameDecoder(100).feed(data)


@pytest.mark.parametrize("codec", list(Codec))
def test_unknown_field_is_refused(codec):
    """Within a version the schema is closed: a peer that says more speaks something else."""
    body = {"type": "AttemptStarted", "attempt_id": "t.1", "more": 1}
    payload = msgspec.json.encode(body) if codec is Codec.JSON else msgspec.msgpack.encode(body)
    with pytest.raises(MalformedMessage, match="more"):
        decode_from_worker(payload, codec)


def test_nan_is_refused():
    """MessagePack carries what JSON and the tables cannot."""
    vitals = Vitals(
        cpu_percent=float("nan"), memory_total_bytes=1, memory_available_bytes=1, disk_free_bytes=1, load_1m=0.0
    )
    payload = encode(Heartbeat(sequence=1, vitals=vitals, attempt_ids=[]), Codec.MSGPACK)
    with pytest.raises(MalformedMessage):
        decode_from_worker(payload, Codec.MSGPACK)


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf"), 1e300])
def test_durations_that_would_spoil_a_sum_are_refused(seconds):
    """A worker cannot make a histogram of the dispatcher useless with one number."""
    heartbeat = next(message for message in FROM_WORKER if isinstance(message, Heartbeat))
    finished = next(message for message in FROM_WORKER if isinstance(message, AttemptFinished))
    replace = msgspec.structs.replace
    for message in (
        replace(heartbeat, vitals=replace(heartbeat.vitals, round_trip_seconds=seconds)),
        replace(finished, report=replace(finished.report, spawn_seconds=seconds)),
    ):
        with pytest.raises(MalformedMessage):
            decode_from_worker(encode(message, Codec.MSGPACK), Codec.MSGPACK)


def test_deep_nesting_is_refused():
    """The schema bounds depth; a bomb ends as a malformed message."""
    with pytest.raises(MalformedMessage):
        decode_from_worker(b"[" * 100_000, Codec.JSON)


@pytest.mark.parametrize("attempt_id", ["", "a/b", "x" * 65, "a\n"])
def test_ids_have_one_plain_form(attempt_id):
    """An id ends in logs and file names: nothing that could mean more gets in."""
    with pytest.raises(MalformedMessage):
        decode_from_worker(msgspec.json.encode({"type": "AttemptStarted", "attempt_id": attempt_id}), Codec.JSON)


@pytest.mark.parametrize("codec", list(Codec))
def test_numbers_that_no_table_holds_are_refused(codec):
    """A worker cannot stop the dispatcher with a cap or a memory beyond all columns."""
    register = next(message for message in FROM_WORKER if isinstance(message, Register))
    for changes in (
        {"max_limits": Limits(memory_mb=1 << 63)}, {"max_timeout_s": 1 << 63}, {"max_timeout_s": 0},
        {"memory_total_bytes": 1 << 63},
    ):  # fmt: skip
        payload = encode(msgspec.structs.replace(register, **changes), codec)
        with pytest.raises(MalformedMessage):
            decode_from_worker(payload, codec)


@pytest.mark.parametrize("codec", list(Codec))
def test_a_worker_may_say_nothing_of_caps_missing_levels_and_checkpoints(codec):
    """Then it has none."""
    register = next(message for message in FROM_WORKER if isinstance(message, Register))
    said = msgspec.to_builtins(register) | {"type": "Register"}
    for name in ("max_limits", "max_timeout_s", "unproven", "witnessed"):
        del said[name]
    payload = msgspec.json.encode(said) if codec is Codec.JSON else msgspec.msgpack.encode(said)
    read = decode_from_worker(payload, codec)
    assert (read.max_limits, read.max_timeout_s, read.unproven, read.witnessed) == (Limits(), None, [], None)
