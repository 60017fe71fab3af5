"""An attempt's outcome and the messages that carry it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from octaskly_wire.limits import MAX_CHUNK_BYTES, MAX_INLINE_OUTPUT_BYTES
from octaskly_wire.messages import (
    AttemptFinished,
    CapturedOutput,
    FromWorker,
    OutcomeReport,
    OutputChunk,
    OutputFile,
)
from octaskly_wire.vocabulary import FailureReason, OutputStream, SandboxLevel


class KeptOutput(msgspec.Struct, frozen=True, gc=False):
    """What was kept of one stream, head and tail joined by a marker line when something was left out."""

    data: bytes = b""
    total_bytes: int = 0
    is_truncated: bool = False
    content: OutputFile | None = None
    """Where all that was kept lies when it is long; then `data` is a little of each end and `is_truncated`."""

    def describe(self) -> CapturedOutput:
        """Return the part of the report about this stream, with the bytes in it when they are few."""
        if self.content is not None:
            kept_bytes = self.content.size_bytes
            is_truncated = kept_bytes != self.total_bytes
            return CapturedOutput(self.total_bytes, kept_bytes, is_truncated, data=None, sha256=self.content.sha256)
        return CapturedOutput(
            total_bytes=self.total_bytes,
            kept_bytes=len(self.data),
            is_truncated=self.is_truncated,
            data=None if self.is_bulky else self.data,
        )

    @property
    def is_bulky(self) -> bool:
        """Whether the bytes go ahead in chunks."""
        return len(self.data) > MAX_INLINE_OUTPUT_BYTES


NOTHING_KEPT: Final = KeptOutput()
"""Of a stream to which nothing was written."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A finished attempt in hand until the dispatcher has committed it."""

    report: OutcomeReport
    stdout: KeptOutput = NOTHING_KEPT
    stderr: KeptOutput = NOTHING_KEPT

    @property
    def is_bulky(self) -> bool:
        """Whether sending it would hold up a heartbeat, so that it has to queue behind control messages."""
        return self.stdout.is_bulky or self.stderr.is_bulky

    @property
    def contents(self) -> tuple[OutputFile, ...]:
        """Return what the dispatcher must have before this is sent, each content once."""
        if not (self.report.outputs or self.stdout.content or self.stderr.content):
            return ()  # as after most commands
        long_streams = [stream.content for stream in (self.stdout, self.stderr) if stream.content is not None]
        by_digest = {content.sha256: content for content in (*self.report.outputs, *long_streams)}
        return tuple(by_digest.values())

    def without_outputs(self, detail: str) -> Outcome:
        """Return what is told instead when the dispatcher does not take the contents."""
        report = self.report
        # Long output is told by its ends, which is no reason to fail.
        if report.outputs:
            reason = report.failure_reason or FailureReason.STAGING
            report = msgspec.structs.replace(report, outputs=[], failure_reason=reason, detail=detail)
        stdout, stderr = (msgspec.structs.replace(stream, content=None) for stream in (self.stdout, self.stderr))
        return Outcome(report, stdout, stderr)

    def messages(self, attempt_id: str) -> Iterator[FromWorker]:
        """Yield the chunks in order, then the AttemptFinished they belong to."""
        streams: tuple[tuple[OutputStream, KeptOutput], ...] = (("stdout", self.stdout), ("stderr", self.stderr))
        for stream, output in streams:
            if output.is_bulky:
                for offset in range(0, len(output.data), MAX_CHUNK_BYTES):
                    yield OutputChunk(attempt_id, stream, offset, output.data[offset : offset + MAX_CHUNK_BYTES])
        yield self.last_message(attempt_id)

    def last_message(self, attempt_id: str) -> AttemptFinished:
        """Return what all of an outcome is in that is not bulky."""
        if self.stdout is NOTHING_KEPT and self.stderr is NOTHING_KEPT:
            return AttemptFinished(attempt_id, self.report)
        report = msgspec.structs.replace(self.report, stdout=self.stdout.describe(), stderr=self.stderr.describe())
        return AttemptFinished(attempt_id, report)


def never_ran(reason: FailureReason, sandbox: SandboxLevel, backend: str, detail: str) -> Outcome:
    """Return the outcome of an attempt that ended before its command started."""
    return Outcome(
        OutcomeReport(
            failure_reason=reason,
            exit_code=None,
            duration_ms=0,
            sandbox=sandbox,
            backend=backend,
            detail=detail,
        )
    )
