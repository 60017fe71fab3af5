"""Long output goes as a content, ahead of its outcome."""

from __future__ import annotations

from octaskly_wire.messages import AttemptFinished, CapturedOutput, OutcomeReport, OutputFile
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from worker_node.core.outcome import KeptOutput, Outcome
from worker_node.shell.spool import entry_bytes, read_entry

CONTENT = OutputFile("stdout", "a" * 64, 5_000_000)
FILE = OutputFile("report.pdf", "b" * 64, 7)
REPORT = OutcomeReport(failure_reason=None, exit_code=0, duration_ms=1, sandbox=SandboxLevel.NONE, backend="x")
WHOLE = KeptOutput(b"head and tail", 5_000_000, is_truncated=True, content=CONTENT)
CUT = KeptOutput(b"head and tail", 9_000_000, is_truncated=True, content=CONTENT)


def told(outcome: Outcome) -> OutcomeReport:
    """Return the report as it is sent; nothing goes ahead of it on the link."""
    [message] = outcome.messages("t.1")
    assert isinstance(message, AttemptFinished)
    return message.report


def test_the_report_names_the_content():
    """No bytes are in it and none in chunks; whether something was left out follows from the lengths."""
    report = told(Outcome(REPORT, WHOLE, CUT))
    assert report.stdout == CapturedOutput(5_000_000, 5_000_000, is_truncated=False, data=None, sha256="a" * 64)
    assert report.stderr == CapturedOutput(9_000_000, 5_000_000, is_truncated=True, data=None, sha256="a" * 64)


def test_contents_are_named_once():
    """Outputs and streams alike, and what is equal is sent once."""
    report = OutcomeReport(None, 0, 1, SandboxLevel.NONE, "x", outputs=[FILE])
    assert Outcome(report, WHOLE, CUT).contents == (FILE, CONTENT)


def test_a_refused_content_of_a_stream_leaves_its_ends():
    """The command did not fail for it."""
    outcome = Outcome(REPORT, WHOLE).without_outputs("too large")
    assert outcome.contents == ()
    report = told(outcome)
    assert (report.failure_reason, report.stdout.data, report.stdout.is_truncated) == (None, b"head and tail", True)


def test_a_refused_output_is_a_failure():
    """What was declared and is not there has failed, long output beside it or not."""
    report = OutcomeReport(None, 0, 1, SandboxLevel.NONE, "x", outputs=[FILE])
    outcome = Outcome(report, WHOLE).without_outputs("too large")
    assert outcome.contents == ()
    assert (told(outcome).failure_reason, told(outcome).detail) == (FailureReason.STAGING, "too large")


def test_it_is_spooled_by_name():
    """An outcome on disk leads to its content after a restart."""
    outcome = Outcome(REPORT, WHOLE)
    assert read_entry(entry_bytes("t.1", outcome), "t.1") == outcome
