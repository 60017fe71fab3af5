"""A hundred thousand hostile frames for the sessions of both ends, in every phase: refused, or read as what they say."""

from __future__ import annotations

import gc

import psutil
import pytest

from octaskly_wire.codec import Codec, encode
from octaskly_wire.errors import WireError
from octaskly_wire.framing import encode_frame
from octaskly_wire.session import DispatcherSession, Phase, WorkerSession
from octaskly_wire.vocabulary import LinkPurpose
from tests.support.fuzzed_frames import Fuzzer
from tests.support.messages import FROM_WORKER, TO_WORKER

FRAMES = 50_000
GROWTH_BYTES = 50 << 20
LARGEST_BUFFER_BYTES = 2 << 20


def dispatcher_session(phase):
    """Return a dispatcher's session in a phase."""
    session = DispatcherSession()
    if phase in {Phase.OPEN, Phase.TRANSFERRING}:
        session.purpose = LinkPurpose.CONTROL if phase is Phase.OPEN else LinkPurpose.TRANSFER
        session.open()
    session.phase = phase
    return session


def worker_session(phase):
    """Return a worker's session in a phase."""
    session = WorkerSession(Codec.MSGPACK)
    for name in {Phase.GREETING: (), Phase.PROVING: ("Challenge",)}.get(phase, ("Challenge", "Welcome")):
        message = next(message for message in TO_WORKER if type(message).__name__ == name)
        session.feed(encode_frame(Codec.MSGPACK, encode(message, Codec.MSGPACK)))
    session.phase = phase
    return session


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "messages"), [(dispatcher_session, FROM_WORKER), (worker_session, TO_WORKER)], ids=["dispatcher", "worker"]
)
def test_hostile_frames_raise_nothing_but_wire_errors_and_fill_no_memory(make, messages):
    """Whatever comes, in whatever pieces and phase; and most of it is refused."""
    fuzzer = Fuzzer(messages, seed=7)
    process = psutil.Process()
    phases = [Phase.GREETING, Phase.PROVING, Phase.OPEN, Phase.TRANSFERRING]
    refused = read = 0
    kept = []
    before = process.memory_info().rss
    for number in range(FRAMES):
        session = make(phases[number % len(phases)])
        try:
            for piece in fuzzer.cut(fuzzer()):
                read += len(session.feed(piece))
        except WireError:
            refused += 1
        assert len(session._decoder._buffer) < LARGEST_BUFFER_BYTES
        kept = [*kept[-100:], session]  # As many links as a cluster has.
    gc.collect()
    assert process.memory_info().rss - before < GROWTH_BYTES
    assert refused > FRAMES // 2
    assert read > FRAMES // 100
