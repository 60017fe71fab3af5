"""What may be said when."""

from __future__ import annotations

import msgspec
import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.errors import FrameTooLarge, MalformedFrame, UnexpectedMessage
from octaskly_wire.limits import MAX_UNAUTHENTICATED_FRAME_BYTES
from octaskly_wire.messages import FetchCa
from octaskly_wire.session import DispatcherSession, Phase, WorkerSession
from octaskly_wire.vocabulary import LinkPurpose
from tests.support.messages import FROM_WORKER, TO_WORKER

SAMPLE = {type(message).__name__: message for message in [*FROM_WORKER, *TO_WORKER]}
HELLO = {purpose: msgspec.structs.replace(SAMPLE["Hello"], purpose=purpose) for purpose in LinkPurpose}
OF_TRANSFERS = {"FetchBlob", "StoreBlob", "BlobChunk"}
TO_TRANSFERS = {"SendBlob", "BlobChunk", "BlobStored", "TransferRefused"}


def opened(purpose, codec=Codec.MSGPACK):
    """Return both ends of a link of this purpose, right after Welcome."""
    worker, dispatcher = WorkerSession(codec, purpose), DispatcherSession()
    dispatcher.feed(worker.encode(HELLO[purpose]))
    worker.feed(dispatcher.encode(SAMPLE["Challenge"]))
    dispatcher.feed(worker.encode(SAMPLE["Auth"]))
    dispatcher.open()
    worker.feed(dispatcher.encode(SAMPLE["Welcome"]))
    return worker, dispatcher


@pytest.mark.parametrize("codec", list(Codec))
def test_whole_conversation(codec):
    """From Hello to an outcome, in the codec the worker chose."""
    worker, dispatcher = WorkerSession(codec), DispatcherSession()

    def up(name):
        assert dispatcher.feed(worker.encode(SAMPLE[name])) == [SAMPLE[name]]

    def down(name):
        assert worker.feed(dispatcher.encode(SAMPLE[name])) == [SAMPLE[name]]

    assert dispatcher.feed(worker.encode(HELLO[LinkPurpose.CONTROL])) == [HELLO[LinkPurpose.CONTROL]]
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


@pytest.mark.parametrize("codec", list(Codec))
def test_whole_transfer(codec):
    """On a link for transfers contents go both ways right after Welcome; nobody registers."""
    worker, dispatcher = opened(LinkPurpose.TRANSFER, codec)
    for name in ("FetchBlob", "StoreBlob", "BlobChunk"):
        assert dispatcher.feed(worker.encode(SAMPLE[name])) == [SAMPLE[name]]
    for name in ("BlobChunk", "SendBlob", "BlobStored", "TransferRefused"):
        assert worker.feed(dispatcher.encode(SAMPLE[name])) == [SAMPLE[name]]
    assert (worker.phase, dispatcher.phase) == (Phase.TRANSFERRING, Phase.TRANSFERRING)


@pytest.mark.parametrize("name", sorted({type(message).__name__ for message in FROM_WORKER} - OF_TRANSFERS))
def test_a_link_for_transfers_carries_nothing_else_up(name):
    """Neither Register nor a heartbeat nor an outcome may come over it."""
    _, dispatcher = opened(LinkPurpose.TRANSFER)
    with pytest.raises(UnexpectedMessage, match=f"{name} while transferring"):
        dispatcher.feed(WorkerSession(Codec.MSGPACK).encode(SAMPLE[name]))


@pytest.mark.parametrize("name", sorted({type(message).__name__ for message in TO_WORKER} - TO_TRANSFERS - {"Refused"}))
def test_a_link_for_transfers_carries_nothing_else_down(name):
    """No order comes over it."""
    worker, dispatcher = opened(LinkPurpose.TRANSFER)
    with pytest.raises(UnexpectedMessage, match=f"{name} while transferring"):
        worker.feed(dispatcher.encode(SAMPLE[name]))


@pytest.mark.parametrize("name", sorted(OF_TRANSFERS))
def test_a_control_link_carries_no_contents_up(name):
    """Bulk never stands before a heartbeat."""
    _, dispatcher = opened(LinkPurpose.CONTROL)
    dispatcher.feed(WorkerSession(Codec.MSGPACK).encode(SAMPLE["Register"]))
    with pytest.raises(UnexpectedMessage, match=f"{name} while open"):
        dispatcher.feed(WorkerSession(Codec.MSGPACK).encode(SAMPLE[name]))


@pytest.mark.parametrize("name", sorted(TO_TRANSFERS))
def test_a_control_link_carries_no_contents_down(name):
    """The other way neither."""
    worker, dispatcher = opened(LinkPurpose.CONTROL)
    with pytest.raises(UnexpectedMessage, match=f"{name} while open"):
        worker.feed(dispatcher.encode(SAMPLE[name]))


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
