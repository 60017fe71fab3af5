"""Tells two outcomes of one attempt apart, however they came. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from octaskly_wire.messages import CapturedOutput, OutcomeReport

NOTHING: Final = CapturedOutput()
"""What most commands write."""
_NOTHING_TOLD: Final = CapturedOutput(data=None)
_DIGEST_OF_NOTHING: Final = sha256(b"").digest()
_encoded: Final = msgspec.msgpack.Encoder().encode


def outcome_digest(report: OutcomeReport, stdout: bytes, stderr: bytes) -> str:
    """Return what tells two outcomes of one attempt apart: SHA-256 over the report and both kept outputs.

    Whether the output came inside the report or in chunks is a matter of its size and makes no difference.
    """
    facts = msgspec.structs.replace(report, stdout=_without_data(report.stdout), stderr=_without_data(report.stderr))
    digests = [sha256(output).digest() if output else _DIGEST_OF_NOTHING for output in (stdout, stderr)]
    return sha256(b"".join([_encoded(facts), *digests])).hexdigest()


def _without_data(output: CapturedOutput) -> CapturedOutput:
    if output == NOTHING:
        return _NOTHING_TOLD
    return output if output.data is None else msgspec.structs.replace(output, data=None)
