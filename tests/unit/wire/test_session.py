"""What may be said when."""

from __future__ import annotations

import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.errors import FrameTooLarge, MalformedFrame, UnexpectedMessage
from octaskly_wire.limits import MAX_UNAUTHENTICATED_FRAME_BYTES
from octaskly_wire.messages import FetchCa
from octaskly_wire.session import DispatcherSession, Phase, WorkerSession
from tests.support.messages import FROM_WORKER, TO_WORKER

SAMPLE = {type(message).__name__: message for message in [*FROM_WORKER, *TO_WORKER]}


@pytest.mark.parametrize("codec", list(Codec))
def test_whole_conversation(codec):
    """From Hello to an outcome, in the codec the worker chose."""
    worker, dispatcher = WorkerSession(codec), DispatcherSession()

    def up(name):
        assert dispatcher.feed(worker.encode(SAMPLE[name])) == [SAMPLE[name]]

    def down(name):
        assert worker.feed(dispatcher.encode(SAMPLE[name])) == [SAMPLE[name]]

    up("Hello")
    down("Challenge")
    up("Auth")
    dispatcher.open()
    down("Welcome")
    up("Register")
    down("AssignAttempt")
    up("AttemptStarted")
    up("AttemptFinished")
    down("AcknowledgeOutcome")
    assert (worker.phase, dispatcher.phase, dispatcher.codec) == (Phase.OPEN, Phase.OPEN, codec)


@pytest.mark.parametrize("name", [type(message).__name__ for message in FROM_WORKER])
def test_stranger_may_only_greet(name):
    """Before AUTH nothing but FetchCa, Enrol and Hello is heard."""
    session, frame = DispatcherSession(), WorkerSession(Codec.MSGPACK).encode(SAMPLE[name])
    if name in {"FetchCa", "Enrol", "Hello"}:
        assert session.feed(frame) == [SAMPLE[name]]
    else:
        with pytest.raises(UnexpectedMessage, match=name):
            session.feed(frame)


@pytest.mark.parametrize("name", [type(message).__name__ for message in TO_WORKER])
def test_worker_takes_no_orders_before_welcome(name):
    """A dispatcher that has not welcomed the worker cannot make it run anything."""
    session, frame = WorkerSession(Codec.MSGPACK), DispatcherSession().encode(SAMPLE[name])
    if name in {"CaBundle", "Enrolled", "Challenge", "Refused"}:
        assert session.feed(frame) == [SAMPLE[name]]
    else:
        with pytest.raises(UnexpectedMessage, match=name):
            session.feed(frame)


def test_nothing_rides_behind_an_unchecked_proof():
    """What a peer sends behind Auth, before the proof was checked, is refused."""
    worker, session = WorkerSession(Codec.MSGPACK), DispatcherSession()
    session.feed(worker.encode(SAMPLE["Hello"]))
    with pytest.raises(UnexpectedMessage):
        session.feed(worker.encode(SAMPLE["Auth"]) + worker.encode(SAMPLE["Register"]))


def test_second_question_after_the_ca_is_refused():
    """One link, one purpose."""
    worker, session = WorkerSession(Codec.MSGPACK), DispatcherSession()
    session.feed(worker.encode(FetchCa()))
    with pytest.raises(UnexpectedMessage):
        session.feed(worker.encode(SAMPLE["Hello"]))


def test_strangers_frames_are_small():
    """Before AUTH the cap is 8 KiB, after it a megabyte."""
    session = DispatcherSession()
    announced = (MAX_UNAUTHENTICATED_FRAME_BYTES + 2).to_bytes(4, "big") + b"\x01"
    with pytest.raises(FrameTooLarge):
        session.feed(announced)
    opened = DispatcherSession()
    opened.open()
    assert opened.feed(announced) == []


def test_codec_stays():
    """A peer that changes its codec in mid-session is cut."""
    session = DispatcherSession()
    session.feed(WorkerSession(Codec.JSON).encode(SAMPLE["Hello"]))
    with pytest.raises(MalformedFrame):
        session.feed(WorkerSession(Codec.MSGPACK).encode(SAMPLE["Auth"]))
