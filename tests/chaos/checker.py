"""Looks at what a scenario left behind, with everything stopped: the database, the file of lines, the logs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.field import Field
from tests.chaos.load import LEAVES_LINE
from tests.support.programs import processes_with

SHOWN = 5
_EXCEPTION = re.compile(r"\s*[\w.]+(Error|Exception|Aborted|Lost|Unavailable|Timeout)\b[^()]*$")
BALLAST = "ballast"
"""Name of tasks that a scenario put into the database by hand."""


@dataclass
class Findings:
    """The counts of a scenario and the promises that it broke."""

    tasks: int = 0
    executions: int = 0
    re_executions: int = 0
    lost: int = 0
    double: int = 0
    superseded: int = 0
    broken: list[str] = field(default_factory=list)

    def must_be_empty(self, items: Iterable[object], text: str) -> int:
        """Note a promise broken by these items, if there are any; return how many."""
        found = list(items)
        if found:
            shown = ", ".join(str(item) for item in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self.broken.append(f"{len(found)} {text}: {shown}{more}")
        return len(found)


def check(scene: Field) -> Findings:
    """Check every promise; nothing may run any more."""
    findings = Findings(broken=list(scene.broken))
    tasks = scene.rows(
        "SELECT name, id, status, attempt, worker_id, assigned_at, failure_reason FROM tasks WHERE name <> ?", BALLAST
    )
    findings.tasks = len(tasks)
    names = {row[1]: row[0] for row in tasks}
    _check_tasks(scene, findings, tasks)
    given_up = _check_results(scene, findings, tasks)
    _check_lines(scene, findings, names, given_up)
    _check_audit(scene, findings, names)
    _check_what_is_left(scene, findings)
    _check_logs(scene, findings)
    return findings


def _check_tasks(scene: Field, findings: Findings, tasks: list[tuple]) -> None:
    rows = Counter(row[0] for row in tasks)
    acknowledged = scene.ledger.acknowledged
    findings.lost += findings.must_be_empty(
        (name for name in acknowledged if not rows[name]), "acknowledged tasks are not in the database"
    )
    findings.must_be_empty((name for name, count in rows.items() if count > 1), "names stand there more than once")
    findings.must_be_empty(set(rows) - set(acknowledged), "tasks are there that were never acknowledged")
    wrong_ids = (row[0] for row in tasks if acknowledged.get(row[0], row[1]) != row[1])
    findings.must_be_empty(wrong_ids, "tasks have another id than their acknowledgement said")
    findings.lost += findings.must_be_empty(
        ((row[0], row[2], row[6]) for row in tasks if row[2] != "completed"), "tasks are not completed"
    )
    findings.must_be_empty((row[0] for row in tasks if row[5] is not None), "tasks have a live attempt still")


def _check_results(scene: Field, findings: Findings, tasks: list[tuple]) -> Counter[str]:
    """Return how many attempts of each task are on record beside the accepted one."""
    accepted: dict[str, list[tuple]] = {}
    given_up: Counter[str] = Counter()
    for task_id, number, worker_id, state, outcome, is_superseded in scene.rows(
        "SELECT task_id, attempt, worker_id, state, outcome, is_superseded FROM results"
    ):
        if outcome == "completed" and not is_superseded:
            accepted.setdefault(task_id, []).append((number, worker_id))
        elif state == "ended":
            given_up[task_id] += 1
        findings.superseded += bool(is_superseded)
    completed = [row for row in tasks if row[2] == "completed"]
    findings.double += findings.must_be_empty(
        (row[0] for row in completed if len(accepted.get(row[1], [])) > 1), "tasks have more than one accepted outcome"
    )
    findings.must_be_empty(
        (row[0] for row in completed if (row[3], row[4]) not in accepted.get(row[1], [])),
        "tasks are not what their latest attempt is",
    )
    return given_up


def _check_lines(scene: Field, findings: Findings, names: dict[str, str], given_up: Counter[str]) -> None:
    text = scene.ledger.lines.read_text() if scene.ledger.lines.exists() else ""
    lines = Counter(text.splitlines())
    findings.executions = lines.total()
    findings.re_executions = sum(count - 1 for count in lines.values())
    telling = {task_id: name for task_id, name in names.items() if name.startswith(LEAVES_LINE)}
    findings.must_be_empty(set(lines) - set(telling.values()), "lines are of no task")
    findings.must_be_empty((name for name in telling.values() if not lines[name]), "tasks completed and never ran")
    findings.must_be_empty(
        (name for task_id, name in telling.items() if lines[name] - 1 > given_up[task_id]),
        "tasks ran more often than the attempts on record say",
    )


def _check_audit(scene: Field, findings: Findings, names: dict[str, str]) -> None:
    counts: dict[str, Counter[str]] = {"task_submitted": Counter(), "task_finished": Counter()}
    accepted: Counter[str] = Counter()
    for kind, task_id, details in scene.rows(
        "SELECT event_type, task_id, details FROM audit_log WHERE event_type IN ('task_submitted', 'task_finished')"
    ):
        counts[kind][task_id] += 1
        accepted[task_id] += kind == "task_finished" and json.loads(details)["outcome"] == "completed"
    for kind, events in counts.items():
        wrong = ((name, events[task_id]) for task_id, name in names.items() if events[task_id] != 1)
        findings.must_be_empty(wrong, f"tasks have not exactly one {kind} in the audit")
    findings.double += findings.must_be_empty(
        (name for task_id, name in names.items() if accepted[task_id] > 1), "tasks were finished more than once"
    )


def _check_what_is_left(scene: Field, findings: Findings) -> None:
    integrity = scene.rows("PRAGMA integrity_check")
    if integrity != [("ok",)]:
        findings.broken.append(f"the database is damaged: {integrity[:SHOWN]}")
    verified = scene.manage("auditverify")
    if verified.returncode != 0:
        findings.broken.append(f"auditverify ended with {verified.returncode}: {verified.stdout}{verified.stderr}")
    findings.must_be_empty(scene.folder.glob("state-*/spool/*"), "outcomes wait on disks of workers")
    attempts = (left for state in scene.folder.glob("state-*") for left in Path(state, "work").glob("*"))
    findings.must_be_empty(attempts, "folders of attempts are left")
    findings.must_be_empty(processes_with(scene.ledger.mark), "processes of commands are left")


def _check_logs(scene: Field, findings: Findings) -> None:
    for program in scene.programs:
        log = program.stderr
        if any(secret in log for secret in scene.secrets):
            findings.broken.append(f"a secret stands in the log of {program.name}")
        before, traceback, after = log.partition("Traceback (most recent call last)")
        if traceback:
            said = (before.splitlines() or [""])[-2:]
            name = next((line.strip() for line in after.splitlines() if _EXCEPTION.match(line)), "")
            findings.broken.append(f"the log of {program.name} has a traceback: {' '.join(said).strip()} {name}")
