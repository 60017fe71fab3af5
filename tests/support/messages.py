"""One sample of every message of the protocol, with every field filled, for golden frames and round trips."""

from __future__ import annotations

from octaskly_wire import messages as m
from octaskly_wire.vocabulary import (
    Admission,
    Enforcement,
    FailureReason,
    HeldPhase,
    LinkPurpose,
    RefusalCode,
    RejectionReason,
    SandboxLevel,
)

_NONCE = bytes(range(32))
_VITALS = m.Vitals(
    cpu_percent=12.5,
    memory_total_bytes=8 << 30,
    memory_available_bytes=5 << 30,
    disk_free_bytes=1 << 40,
    load_1m=0.75,
    round_trip_seconds=0.002,
)
_DIGEST = "5e" * 32
_REPORT = m.OutcomeReport(
    failure_reason=FailureReason.SIGNAL,
    exit_code=None,
    duration_ms=1234,
    sandbox=SandboxLevel.BASIC,
    backend="linux-spawner",
    signal=9,
    cpu_seconds=0.25,
    max_rss_bytes=1 << 20,
    spawn_seconds=0.004,
    limits={"memory": Enforcement.KERNEL, "disk": Enforcement.POLLED},
    detail="killed",
    stdout=m.CapturedOutput(total_bytes=6, kept_bytes=6, data=b"caf\xc3\xa9\xff"),
    stderr=m.CapturedOutput(total_bytes=1 << 30, kept_bytes=1 << 20, is_truncated=True, data=None),
    outputs=[m.OutputFile(name="renders/0001.png", sha256=_DIGEST, size_bytes=1 << 20)],
)

_CHUNK = m.BlobChunk(offset=1 << 18, data=b"\x00\xff")
"""The one message that goes both ways."""

_CHECKPOINT = m.AuditCheckpoint(
    row_id=2000, head=_DIGEST, taken_at="2026-11-27T12:00:00.000000Z", signature=b"\x07" * 64
)

FROM_WORKER: list[m.FromWorker] = [
    m.FetchCa(),
    m.Enrol(protocol_version=1, token_id="abcdefgh", secret="s" * 26, certificate_request=b"\x30\x82", name="pc-07"),
    m.Hello(
        protocol_version=1,
        worker_id="w1",
        boot_id="b1",
        nonce=_NONCE,
        software_version="0.1.0",
        purpose=LinkPurpose.TRANSFER,
    ),
    m.Auth(certificate=b"\x30\x82\x01", signature=bytes(64)),
    m.Register(
        name="pc-07",
        slots=4,
        levels=[m.LevelProof(level=SandboxLevel.BASIC, backend="linux-spawner", gaps=["sees the host's files"])],
        allows_network=True,
        is_draining=False,
        platform="Linux x86_64",
        cpu_count=8,
        memory_total_bytes=8 << 30,
        held=[m.HeldAttempt(attempt_id="t1.2", phase=HeldPhase.RUNNING)],
        max_limits=m.Limits(memory_mb=4096, cpu_seconds=600, processes=64, open_files=512, disk_mb=2048),
        max_timeout_s=3600,
        unproven=[
            m.UnprovenLevel(level=SandboxLevel.NONE, reason="below this worker's floor (basic)", is_below_floor=True),
            m.UnprovenLevel(level=SandboxLevel.STRICT, reason="user namespaces are forbidden"),
        ],
        witnessed=_CHECKPOINT,
    ),
    m.RenewCertificate(certificate_request=b"\x30\x82"),
    m.TrustConfirmed(ca_digests=[_DIGEST], certificate_sha256=_DIGEST),
    m.Heartbeat(sequence=7, vitals=_VITALS, attempt_ids=["t1.2"]),
    m.AttemptStarted(attempt_id="t1.2"),
    m.OutputChunk(attempt_id="t1.2", stream="stdout", offset=0, data=b"\x00\xff"),
    m.OutputPiece(read_id=3, offset=1 << 20, data=b"\x00\xff", is_end=True),
    m.FetchBlob(attempt_id="t1.2", sha256=_DIGEST, offset=1 << 30),
    m.StoreBlob(attempt_id="t1.2", sha256=_DIGEST, size_bytes=1 << 30),
    _CHUNK,
    m.AttemptFinished(attempt_id="t1.2", report=_REPORT),
    m.AttemptRejected(attempt_id="t1.2", reason=RejectionReason.SANDBOX_UNAVAILABLE, detail="prctl failed"),
    m.DrainStarted(),
    m.WorkPaused(detail="12 MB free in the state folder, 200 MB are kept free"),
    m.WorkResumed(),
]

TO_WORKER: list[m.ToWorker] = [
    m.CaBundle(cluster_id="c1", certificate=b"\x30\x82"),
    m.Enrolled(worker_id="w1", cluster_id="c1", certificate=b"\x30", admission=Admission.PENDING),
    m.Challenge(cluster_id="c1", nonce=_NONCE),
    m.Welcome(admission=Admission.APPROVED, heartbeat_interval_s=5.0, lease_s=30.0),
    m.Refused(code=RefusalCode.REVOKED, detail="no more", is_final=True),
    m.AssignAttempt(
        attempt_id="t1.2",
        task_id="t1",
        command="echo 'héllo'",
        timeout_s=3600,
        sandbox=SandboxLevel.STRICT,
        allows_network=False,
        env={"A": "b"},
        limits=m.Limits(memory_mb=512),
        inputs=[m.InputFile(name="scenes/cat.blend", sha256=_DIGEST, size_bytes=1 << 30)],
        outputs=["renders/*.png"],
    ),
    m.CancelAttempt(attempt_id="t1.2", discard=True),
    m.AcknowledgeOutcome(attempt_id="t1.2"),
    m.OutcomeRefused(attempt_id="t1.2", detail="exit code 1 came after exit code 0"),
    m.ReadOutput(read_id=3, attempt_id="t1.2", stream="stderr", offset=1 << 19, max_bytes=1 << 16),
    m.SendBlob(offset=1 << 18),
    _CHUNK,
    m.BlobStored(sha256=_DIGEST),
    m.TransferRefused(detail="the attempt is not this worker's", is_final=True),
    m.CertificateRenewed(certificate=b"\x30\x82"),
    m.RenewalRefused(detail="the request is for another key"),
    m.TrustChanged(ca_certificates=[b"\x30\x82", b"\x30\x83"]),
    m.WitnessCheckpoint(checkpoint=_CHECKPOINT),
    m.HeartbeatAck(sequence=7),
    m.AdmissionChanged(admission=Admission.SUSPENDED, detail="disk is failing"),
    m.Drain(),
    m.Resume(),
]

SAMPLES = [*FROM_WORKER, *TO_WORKER]
