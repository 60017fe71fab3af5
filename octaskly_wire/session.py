"""What may be said when: the protocol's phases, on both ends, without I/O.

Theory of operation. A dispatcher's session begins in GREETING, where a peer without identity may ask for the
CA or enrol, or say Hello. Hello leads to PROVING, where only Auth may come. The shell checks the proof and
calls `open`, which leads to OPEN: the first message there must be Register, then run-time messages flow. A link
that was greeted as one for transfers leads to TRANSFERRING instead, where files go both ways and nothing else does.
The worker's session mirrors this; Welcome opens it. Before OPEN frames are capped far lower.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from octaskly_wire.codec import Codec, decode_from_worker, decode_to_worker, encode
from octaskly_wire.errors import MalformedFrame, UnexpectedMessage
from octaskly_wire.framing import FrameDecoder, encode_frame
from octaskly_wire.limits import MAX_FRAME_BYTES, MAX_UNAUTHENTICATED_FRAME_BYTES
from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AdmissionChanged,
    AssignAttempt,
    AttemptFinished,
    AttemptRejected,
    AttemptStarted,
    Auth,
    BlobChunk,
    BlobStored,
    CaBundle,
    CancelAttempt,
    CertificateRenewed,
    Challenge,
    Drain,
    DrainStarted,
    Enrol,
    Enrolled,
    FetchBlob,
    FetchCa,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Hello,
    OutcomeRefused,
    OutputChunk,
    OutputPiece,
    ReadOutput,
    Refused,
    Register,
    RenewalRefused,
    RenewCertificate,
    Resume,
    SendBlob,
    StoreBlob,
    ToWorker,
    TransferRefused,
    TrustChanged,
    TrustConfirmed,
    Welcome,
    WitnessCheckpoint,
    WorkPaused,
    WorkResumed,
)
from octaskly_wire.vocabulary import LinkPurpose


class Phase(StrEnum):
    """How far a session has come."""

    GREETING = "greeting"
    PROVING = "proving"
    REGISTERING = "registering"
    OPEN = "open"
    TRANSFERRING = "transferring"
    OVER = "over"


_FROM_WORKER: Final[dict[Phase, tuple[type, ...]]] = {
    Phase.GREETING: (FetchCa, Enrol, Hello),
    Phase.PROVING: (Auth,),
    Phase.REGISTERING: (Register,),
    Phase.OPEN: (
        Heartbeat, AttemptStarted, OutputChunk, OutputPiece, AttemptFinished, AttemptRejected, DrainStarted, WorkPaused,
        WorkResumed, RenewCertificate, TrustConfirmed,
    ),
    Phase.TRANSFERRING: (FetchBlob, StoreBlob, BlobChunk),
    Phase.OVER: (),
}  # fmt: skip

_LASTING: Final = (Phase.OPEN, Phase.TRANSFERRING)
"""No message of a worker leads out of these."""

_TO_WORKER: Final[dict[Phase, tuple[type, ...]]] = {
    Phase.GREETING: (CaBundle, Enrolled, Challenge, Refused),
    Phase.PROVING: (Welcome, Refused),
    Phase.OPEN: (
        AssignAttempt, CancelAttempt, AcknowledgeOutcome, OutcomeRefused, ReadOutput, HeartbeatAck, AdmissionChanged,
        Drain, Resume, Refused, CertificateRenewed, RenewalRefused, TrustChanged, WitnessCheckpoint,
    ),
    Phase.TRANSFERRING: (SendBlob, BlobChunk, BlobStored, TransferRefused, Refused),
    Phase.OVER: (),
}  # fmt: skip

_FAREWELLS: Final = (CaBundle, Enrolled, Refused)
"""After these the dispatcher says nothing more."""

_STEPS: Final = (Challenge, Welcome, *_FAREWELLS)
"""What the dispatcher says that leads to another phase."""


class DispatcherSession:
    """The dispatcher's end of one link."""

    def __init__(self) -> None:
        self.phase = Phase.GREETING
        self.codec = Codec.MSGPACK
        self.purpose = LinkPurpose.CONTROL
        self._codec_is_known = False
        self._decoder = FrameDecoder(MAX_UNAUTHENTICATED_FRAME_BYTES)

    def feed(self, data: bytes) -> list[FromWorker]:
        """Return the messages that are complete; raises WireError on anything out of order."""
        return [self._read(codec, payload) for codec, payload in self._decoder.feed(data)]

    def cut(self, data: memoryview) -> tuple[list[FromWorker], int]:
        """Return the whole messages at the beginning of these bytes, and where they end; raises what `feed` raises.

        What follows is not kept: whoever calls this has a place for it.
        """
        frames, used_bytes = self._decoder.cut(data)
        return [self._read(codec, payload) for codec, payload in frames], used_bytes

    def _read(self, codec: Codec, payload: bytes | memoryview) -> FromWorker:
        if not self._codec_is_known:
            self.codec, self._codec_is_known = codec, True
        elif codec is not self.codec:
            raise MalformedFrame("the peer changed its codec")
        message = decode_from_worker(payload, codec)
        if not isinstance(message, _FROM_WORKER[self.phase]):
            raise UnexpectedMessage(f"{type(message).__name__} while {self.phase.value}")
        if self.phase not in _LASTING:
            self._step(message)
        return message

    def _step(self, message: FromWorker) -> None:
        if isinstance(message, Hello):
            self.phase, self.purpose = Phase.PROVING, message.purpose
        elif isinstance(message, FetchCa | Enrol | Auth):
            # After Auth nothing may come before the answer to it.
            self.phase = Phase.OVER
        elif isinstance(message, Register):
            self.phase = Phase.OPEN

    def open(self) -> None:
        """Let the proven worker register and speak freely, or move files."""
        self.phase = Phase.REGISTERING if self.purpose is LinkPurpose.CONTROL else Phase.TRANSFERRING
        self._decoder.max_frame_bytes = MAX_FRAME_BYTES

    def encode(self, message: ToWorker) -> bytes:
        """Return the frame of a message, in the codec the worker chose."""
        return encode_frame(self.codec, encode(message, self.codec))


class WorkerSession:
    """The worker's end of one link."""

    def __init__(self, codec: Codec, purpose: LinkPurpose = LinkPurpose.CONTROL) -> None:
        self.phase = Phase.GREETING
        self.codec = codec
        self.purpose = purpose
        self._decoder = FrameDecoder(MAX_UNAUTHENTICATED_FRAME_BYTES)

    def feed(self, data: bytes) -> list[ToWorker]:
        """Return the messages that are complete; raises WireError on anything out of order."""
        messages = []
        for codec, payload in self._decoder.feed(data):
            if codec is not self.codec:
                raise MalformedFrame("the dispatcher answered in another codec")
            message = decode_to_worker(payload, codec)
            if not isinstance(message, _TO_WORKER[self.phase]):
                raise UnexpectedMessage(f"{type(message).__name__} while {self.phase.value}")
            if isinstance(message, _STEPS):
                self._step(message)
            messages.append(message)
        return messages

    def _step(self, message: ToWorker) -> None:
        if isinstance(message, Challenge):
            self.phase = Phase.PROVING
        elif isinstance(message, Welcome):
            self.phase = Phase.OPEN if self.purpose is LinkPurpose.CONTROL else Phase.TRANSFERRING
            self._decoder.max_frame_bytes = MAX_FRAME_BYTES
        else:
            self.phase = Phase.OVER

    def encode(self, message: FromWorker) -> bytes:
        """Return the frame of a message."""
        return encode_frame(self.codec, encode(message, self.codec))
