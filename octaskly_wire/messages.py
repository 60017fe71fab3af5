"""Every message of protocol version 1, in two closed families: FromWorker and ToWorker.

Commands are imperative (`AssignAttempt`), facts are past tense (`AttemptStarted`). Unknown fields are
refused. Times are seconds unless a name says otherwise. Long because it is a list: every word of the protocol, a few
lines each.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from octaskly_wire.limits import (
    MAX_CHUNK_BYTES,
    MAX_COMMAND_BYTES,
    MAX_INLINE_OUTPUT_BYTES,
    MAX_INPUTS,
    MAX_OUTPUT_FILES,
    MAX_OUTPUT_PATTERNS,
    MAX_TRUSTED_CAS,
)
from octaskly_wire.plain_words import memory_pair
from octaskly_wire.vocabulary import (
    Admission,
    Enforcement,
    FailureReason,
    HeldPhase,
    LinkPurpose,
    OutputStream,
    RefusalCode,
    RejectionReason,
    SandboxLevel,
)

ONE_VISIBLE_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]*\Z"
"""A regular expression: no control character, none that is invisible, and none that turns the direction of writing."""
ShortText = Annotated[str, msgspec.Meta(max_length=255, pattern=ONE_VISIBLE_LINE)]
"""What a worker is called and says of itself: people read it in lists and logs."""
LongText = Annotated[str, msgspec.Meta(max_length=4096)]
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]
Nonce = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""At most what a column of a table holds."""
Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256 of a file's content, lower-case hex: the name under which the content is stored."""
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
"""Relative, with `/` between its parts; `file_names.py` says what is allowed."""
Certificate = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]
"""DER."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""A measured duration; a bound, so that no sum of many is spoilt by one."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of what messages are made of. What comes from a frame holds no cycles for the garbage collector to find."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag=True, gc=False):
    """Base of what travels in a frame of its own; tagged by its class name."""


# --- parts -----------------------------------------------------------------------------------------


class Limits(Part, frozen=True):
    """Resource limits of one attempt. None means: what the worker gives by default.

    As a worker's caps: the most a task may ask for, None means that there is no cap.
    """

    memory_mb: Count | None = None
    cpu_seconds: Count | None = None
    processes: Count | None = None
    open_files: Count | None = None
    disk_mb: Count | None = None

    def excess_over(self, caps: Limits) -> str | None:
        """Return in plain words what is asked for beyond the caps, None when nothing is."""
        if NO_LIMITS in (self, caps):
            return None
        for name, (unit, noun) in _WORDS.items():
            asked, cap = getattr(self, name), getattr(caps, name)
            if asked is not None and cap is not None and asked > cap:
                said = memory_pair(asked, cap) if unit == _MB else (f"{asked}{unit}", f"{cap}{unit}")
                return f"needs {said[0]} {noun}, allows {said[1]}"
        return None


NO_LIMITS: Final = Limits()

_MB: Final = " MB"

_WORDS: Final = {
    "memory_mb": (_MB, "of memory"),
    "cpu_seconds": (" s", "of processor time"),
    "processes": ("", "processes"),
    "open_files": ("", "open files"),
    "disk_mb": (_MB, "of disk"),
}
"""How each limit is said: its unit, and of what."""


class LevelProof(Part, frozen=True):
    """One sandbox level that the worker proved at start, and how."""

    level: SandboxLevel
    backend: ShortText
    gaps: Annotated[list[ShortText], msgspec.Meta(max_length=64)] = []


class UnprovenLevel(Part, frozen=True):
    """One sandbox level that the worker does not offer, and why.

    With `is_below_floor` that is its owner's wish, whether or not the host could prove the level.
    """

    level: SandboxLevel
    reason: LongText
    is_below_floor: bool = False


class Vitals(Part, frozen=True):
    """Load of the worker's machine at one moment.

    `round_trip_seconds`: from the last heartbeat that was answered to its HeartbeatAck; None when none was since the
    heartbeat before.
    """

    cpu_percent: float
    memory_total_bytes: Count
    memory_available_bytes: Count
    disk_free_bytes: Count
    load_1m: float
    round_trip_seconds: Seconds | None = None


class HeldAttempt(Part, frozen=True):
    """An attempt that a connecting worker still has in hand."""

    attempt_id: Identifier
    phase: HeldPhase


class InputFile(Part, frozen=True):
    """A file that is put into the workspace before the command starts."""

    name: FileName
    sha256: Digest
    size_bytes: Count


class OutputFile(Part, frozen=True):
    """A file that was collected from the workspace after the sandbox was dead."""

    name: FileName
    sha256: Digest
    size_bytes: Count


class CapturedOutput(Part, frozen=True):
    """What was kept of one output stream.

    `total_bytes` counts all that the command wrote, `kept_bytes` what is delivered. With `data` None the bytes
    went ahead: by StoreBlob when `sha256` is set, in OutputChunks otherwise. When `is_truncated`, head and tail are
    joined by a marker line.
    """

    total_bytes: Count = 0
    kept_bytes: Count = 0
    is_truncated: bool = False
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_INLINE_OUTPUT_BYTES)] | None = b""
    sha256: Digest | None = None


class AuditCheckpoint(Part, frozen=True):
    """The audit trail's state behind one row: the row's id and hash, signed by the cluster (`audit_app`).

    Workers keep checkpoints without being able to read anything from them, and show them again: that is what makes
    them witnesses. `taken_at` is ISO 8601 in UTC.
    """

    row_id: Count
    head: Digest
    taken_at: ShortText
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class OutcomeReport(Part, frozen=True):
    """How an attempt ended, as the worker saw it.

    `failure_reason` None means exit code 0 and all declared outputs there. `exit_code` is None when the command
    did not exit by itself. The content of `outputs` was stored by StoreBlob before the report is sent.
    `spawn_seconds`: from asking the sandbox for the command to its start; None when it never began.
    """

    failure_reason: FailureReason | None
    exit_code: int | None
    duration_ms: Count
    sandbox: SandboxLevel
    backend: ShortText
    signal: int | None = None
    cpu_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    max_rss_bytes: Count = 0
    spawn_seconds: Seconds | None = None
    limits: dict[ShortText, Enforcement] = {}
    detail: LongText = ""
    stdout: CapturedOutput = CapturedOutput()
    stderr: CapturedOutput = CapturedOutput()
    outputs: Annotated[list[OutputFile], msgspec.Meta(max_length=MAX_OUTPUT_FILES)] = []


# --- from the worker -------------------------------------------------------------------------------


class FetchCa(Message, frozen=True):
    """Ask for the CA certificate, to compare it with the pin in the join token. Needs no identity."""


class Enrol(Message, frozen=True):
    """Use a join token. Of the certificate request only the public key is taken."""

    protocol_version: int
    token_id: Identifier
    secret: Annotated[str, msgspec.Meta(max_length=64)]
    certificate_request: Certificate
    name: ShortText


class Hello(Message, frozen=True):
    """Open a session. `boot_id` is new at every start of the worker process.

    A control link goes on with Register, a transfer link with FetchBlob and StoreBlob.
    """

    protocol_version: int
    worker_id: Identifier
    boot_id: Identifier
    nonce: Nonce
    software_version: ShortText
    purpose: LinkPurpose = LinkPurpose.CONTROL


class Auth(Message, frozen=True):
    """Answer a Challenge: the certificate and an Ed25519 signature over the transcript (`auth.py`)."""

    certificate: Certificate
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Register(Message, frozen=True):
    """Say what the worker can do and still holds; the first message after Welcome."""

    name: ShortText
    slots: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    levels: Annotated[list[LevelProof], msgspec.Meta(max_length=8)]
    allows_network: bool
    is_draining: bool
    platform: ShortText
    cpu_count: Count
    memory_total_bytes: Count
    held: Annotated[list[HeldAttempt], msgspec.Meta(max_length=16384)] = []
    max_limits: Limits = Limits()
    max_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)] | None = None
    unproven: Annotated[list[UnprovenLevel], msgspec.Meta(max_length=8)] = []
    witnessed: AuditCheckpoint | None = None
    """The checkpoint with the highest row that the worker ever got from this cluster."""


class RenewCertificate(Message, frozen=True):
    """Ask for a new certificate before the present one expires. Of the request only the public key is taken."""

    certificate_request: Certificate


class TrustConfirmed(Message, frozen=True):
    """Answer to TrustChanged and to CertificateRenewed, once they are on disk.

    The digests of the CAs' keys that the worker trusts now, and that of the certificate it proves itself with from now on.
    """

    ca_digests: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=MAX_TRUSTED_CAS)]
    certificate_sha256: Digest


class Heartbeat(Message, frozen=True):
    """Proof of life; renews the leases of the attempts it names."""

    sequence: Count
    vitals: Vitals
    attempt_ids: Annotated[list[Identifier], msgspec.Meta(max_length=16384)]


class AttemptStarted(Message, frozen=True):
    """The command's process exists. May be left out when it is over at once: `spawn_seconds` of its outcome tells it."""

    attempt_id: Identifier


class OutputChunk(Message, frozen=True):
    """A piece of kept output, sent in order before the AttemptFinished it belongs to."""

    attempt_id: Identifier
    stream: OutputStream
    offset: Count
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_CHUNK_BYTES)]


class OutputPiece(Message, frozen=True):
    """Answer to ReadOutput, as soon as there is something to tell.

    `offset` counts from the stream's beginning; above the one asked for, what lies between was dropped already.
    `is_end`: nothing more will come, because the attempt ended or is not here. Empty data without `is_end`: nothing
    came in READ_OUTPUT_S, ask again.
    """

    read_id: Count
    offset: Count
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_CHUNK_BYTES)]
    is_end: bool = False


class FetchBlob(Message, frozen=True):
    """On a transfer link: send the content of an input of this attempt from here to its end, in BlobChunks."""

    attempt_id: Identifier
    sha256: Digest
    offset: Count = 0


class StoreBlob(Message, frozen=True):
    """On a transfer link: take the content of an output of this attempt. The answer is SendBlob or TransferRefused."""

    attempt_id: Identifier
    sha256: Digest
    size_bytes: Count


class BlobChunk(Message, frozen=True):
    """On a transfer link, both ways: a piece of the content that FetchBlob or StoreBlob named, in order."""

    offset: Count
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_CHUNK_BYTES)]


class AttemptFinished(Message, frozen=True):
    """The attempt ended. Sent again after every reconnect until AcknowledgeOutcome comes."""

    attempt_id: Identifier
    report: OutcomeReport


class AttemptRejected(Message, frozen=True):
    """The worker hands the attempt back; its command never ran."""

    attempt_id: Identifier
    reason: RejectionReason
    detail: LongText = ""


class DrainStarted(Message, frozen=True):
    """The worker was told to stop: it finishes what runs and takes nothing new."""


class WorkPaused(Message, frozen=True):
    """The worker takes nothing new until WorkResumed, because its disk is full; what runs goes on."""

    detail: Annotated[LongText, msgspec.Meta(min_length=1)]


class WorkResumed(Message, frozen=True):
    """The reason of WorkPaused is gone."""


# --- to the worker ---------------------------------------------------------------------------------


class CaBundle(Message, frozen=True):
    """Answer to FetchCa."""

    cluster_id: Identifier
    certificate: Certificate


class Enrolled(Message, frozen=True):
    """Answer to Enrol: the worker's id and certificate."""

    worker_id: Identifier
    cluster_id: Identifier
    certificate: Certificate
    admission: Admission


class Challenge(Message, frozen=True):
    """Answer to Hello; the nonce serves once."""

    cluster_id: Identifier
    nonce: Nonce


class Welcome(Message, frozen=True):
    """The session stands. Only now is the worker connected."""

    admission: Admission
    heartbeat_interval_s: float
    lease_s: float


class Refused(Message, frozen=True):
    """The dispatcher closes the link after this. With `is_final` a retry cannot help."""

    code: RefusalCode
    detail: LongText
    is_final: bool


class AssignAttempt(Message, frozen=True):
    """Run a command once. `attempt_id` is the fencing token: task id, dot, attempt number."""

    attempt_id: Identifier
    task_id: Identifier
    command: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_COMMAND_BYTES)]
    timeout_s: Annotated[int, msgspec.Meta(ge=1)]
    sandbox: SandboxLevel
    allows_network: bool
    env: dict[str, str] = {}
    limits: Limits = Limits()
    inputs: Annotated[list[InputFile], msgspec.Meta(max_length=MAX_INPUTS)] = []
    outputs: Annotated[list[FileName], msgspec.Meta(max_length=MAX_OUTPUT_PATTERNS)] = []
    """Names and globs. Each must match a regular file when the command exits with 0, or the attempt fails."""


class CancelAttempt(Message, frozen=True):
    """Kill the command's whole process tree. With `discard` no outcome is wanted."""

    attempt_id: Identifier
    discard: bool = False


class AcknowledgeOutcome(Message, frozen=True):
    """The outcome is committed; the worker may forget it."""

    attempt_id: Identifier


class OutcomeRefused(Message, frozen=True):
    """Another outcome of the same attempt is on record and this one says otherwise: forget it, and raise the alarm."""

    attempt_id: Identifier
    detail: LongText


class ReadOutput(Message, frozen=True):
    """Send what a running attempt wrote from this offset on; answered by one OutputPiece.

    The reader asks for each piece, so a slow one slows nobody.
    """

    read_id: Count
    attempt_id: Identifier
    stream: OutputStream
    offset: Count
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNK_BYTES)]


class SendBlob(Message, frozen=True):
    """Answer to StoreBlob: send BlobChunks from here on. At the size already: all is here, BlobStored follows."""

    offset: Count


class BlobStored(Message, frozen=True):
    """The content is verified and on disk for good."""

    sha256: Digest


class TransferRefused(Message, frozen=True):
    """Answer to FetchBlob or StoreBlob, or amid it. With `is_final` a retry cannot help."""

    detail: LongText
    is_final: bool


class CertificateRenewed(Message, frozen=True):
    """Answer to RenewCertificate: the certificate that the worker proves itself with from now on."""

    certificate: Certificate


class RenewalRefused(Message, frozen=True):
    """Answer to RenewCertificate: there is none, and why."""

    detail: LongText


class TrustChanged(Message, frozen=True):
    """Trust exactly these CAs from now on, the one that signs new certificates first.

    Sent whenever it changes, and at the beginning of a link to a worker that has not confirmed it.
    """

    ca_certificates: Annotated[list[Certificate], msgspec.Meta(min_length=1, max_length=MAX_TRUSTED_CAS)]


class WitnessCheckpoint(Message, frozen=True):
    """Keep this checkpoint of the audit trail, and show the highest one in each Register."""

    checkpoint: AuditCheckpoint


class HeartbeatAck(Message, frozen=True):
    """Echo of a heartbeat: the dispatcher lives."""

    sequence: Count


class AdmissionChanged(Message, frozen=True):
    """The worker's place on the whitelist changed."""

    admission: Admission
    detail: LongText = ""


class Drain(Message, frozen=True):
    """Take nothing new; what runs goes on."""


class Resume(Message, frozen=True):
    """Take work again."""


FromWorker = (
    FetchCa
    | Enrol
    | Hello
    | Auth
    | Register
    | RenewCertificate
    | TrustConfirmed
    | Heartbeat
    | AttemptStarted
    | OutputChunk
    | OutputPiece
    | FetchBlob
    | StoreBlob
    | BlobChunk
    | AttemptFinished
    | AttemptRejected
    | DrainStarted
    | WorkPaused
    | WorkResumed
)

ToWorker = (
    CaBundle
    | Enrolled
    | Challenge
    | Welcome
    | Refused
    | AssignAttempt
    | CancelAttempt
    | AcknowledgeOutcome
    | OutcomeRefused
    | ReadOutput
    | SendBlob
    | BlobChunk
    | BlobStored
    | TransferRefused
    | CertificateRenewed
    | RenewalRefused
    | TrustChanged
    | WitnessCheckpoint
    | HeartbeatAck
    | AdmissionChanged
    | Drain
    | Resume
)
