"""Looks at the output files that a report names before anybody believes them. Pure.

A worker keeps the rules of `file_names` itself. One that does not must not bring names into the database that lead
out of a folder when somebody downloads them, nor keep its task from ending.
"""

from __future__ import annotations

import msgspec

from octaskly_wire.file_names import first_double, objection_to_name
from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import FailureReason


def with_sound_files(report: OutcomeReport) -> OutcomeReport:
    """Return the report; without its files and as a failure when one of them has a name that no file may have."""
    if not report.outputs:
        return report
    objection = _objection([output.name for output in report.outputs])
    if objection is None:
        return report
    reason = report.failure_reason or FailureReason.STAGING
    detail = f"{report.detail}; {objection}" if report.detail else objection
    return msgspec.structs.replace(report, failure_reason=reason, detail=detail, outputs=[])


def _objection(names: list[str]) -> str | None:
    for name in names:
        if objection := objection_to_name(name):
            return f"the worker reported an output {name!r}, which {objection}"
    double = first_double(names)
    return None if double is None else f"the worker reported the output {double!r} twice"
