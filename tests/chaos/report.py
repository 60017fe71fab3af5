"""The table at the end: a line a scenario, their sum, and what was broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checker import Findings
from tests.chaos.field import Counts

COLUMNS = (
    "scenario", "tasks", "kills", "pauses", "restarts", "ran again", "lost", "double", "late", "re-approved",
    "slowest start", "WAL", "took", "",
)  # fmt: skip


@dataclass
class Verdict:
    """How one scenario ended."""

    name: str
    folder: Path
    seconds: float = 0.0
    counts: Counts = field(default_factory=Counts)
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.findings.broken

    @property
    def word(self) -> str:
        if self.skipped:
            return "skipped"
        return "ok" if self.is_ok else "FAILED"


def table(verdicts: list[Verdict]) -> str:
    """Return the counts of all scenarios in columns."""
    lines = [COLUMNS, *(_line(verdict) for verdict in verdicts), _line(_total(verdicts))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in {0, len(COLUMNS) - 1} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(verdict: Verdict) -> tuple[str, ...]:
    counts, findings = verdict.counts, verdict.findings
    numbers = (
        findings.tasks, counts.kills, counts.pauses, counts.restarts, findings.re_executions, findings.lost,
        findings.double, findings.superseded, counts.approvals,
    )  # fmt: skip
    slowest = f"{max(counts.restart_s):.2f} s" if counts.restart_s else "-"
    wal = f"{counts.wal_bytes / 2**20:.1f} MiB"
    return (verdict.name, *(str(number) for number in numbers), slowest, wal, f"{verdict.seconds:.0f} s", verdict.word)


def _total(verdicts: list[Verdict]) -> Verdict:
    total = Verdict("in total", Path(), sum(verdict.seconds for verdict in verdicts))
    for verdict in verdicts:
        for name in ("tasks", "executions", "re_executions", "lost", "double", "superseded"):
            setattr(total.findings, name, getattr(total.findings, name) + getattr(verdict.findings, name))
        for name in ("kills", "pauses", "restarts", "approvals"):
            setattr(total.counts, name, getattr(total.counts, name) + getattr(verdict.counts, name))
        total.findings.broken += verdict.findings.broken
        total.counts.restart_s += verdict.counts.restart_s
        total.counts.wal_bytes = max(total.counts.wal_bytes, verdict.counts.wal_bytes)
    return total
