"""Every row of the audit trail reads as a sentence."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_app.models import AuditEntry
from audit_app.words import EVENT_TYPES, describe

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("accounts_app", "audit_app", "dashboard_app", "metrics_app", "octaskly_site", "tasks_app", "workers_app")


def entry(event_type: str, actor: str = "anna", worker_id: str = "", **details: object) -> AuditEntry:
    """Return a row as it comes from the table."""
    return AuditEntry(event_type=event_type, actor=actor, worker_id=worker_id, details=json.dumps(details))


def named(call: ast.Call) -> str:
    """Return the last part of what is called."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def strings(node: ast.AST) -> set[str]:
    """Return all texts in a piece of code."""
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def types_of_call(tree: ast.Module, call: ast.Call) -> set[str]:
    """Return what the first argument of `AuditEvent` can be: a word, a name that got words, or a parameter."""
    first = call.args[0]
    if not isinstance(first, ast.Name):
        return strings(first)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == first.id for target in node.targets):
            # Of `"a" if x == "y" else "b"` the branches, not what is compared.
            branches = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            found |= set().union(*(strings(branch) for branch in branches))
        if isinstance(node, ast.FunctionDef) and any(part is call for part in ast.walk(node)):
            names = [argument.arg for argument in node.args.args]
            if first.id in names:
                place = names.index(first.id)
                calls = (other for other in ast.walk(tree) if isinstance(other, ast.Call) and named(other) == node.name)
                found |= set().union(*(strings(other.args[place]) for other in calls))
    return found


def written_types() -> Iterator[tuple[str, set[str]]]:
    """Yield each place where the product writes a row, with the types that it can write."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and named(node) == "AuditEvent":
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", types_of_call(tree, node)


def test_every_type_that_is_written_has_words() -> None:
    """No row is shown as a bare type and a heap of JSON, and no sentence is kept for what nobody writes."""
    places = list(written_types())
    assert [place for place, types in places if not types] == [], "the test cannot see what these write"
    assert set().union(*(types for _, types in places)) == set(EVENT_TYPES)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
@pytest.mark.parametrize("details", ["{}", "[]", "no JSON", '{"retry_in_s": "x", "filters": 3, "failures": [1]}'])
def test_a_row_without_its_details_still_reads(event_type: str, details: str) -> None:
    """A spoilt row costs its own words at most, never the page."""
    text = describe(AuditEntry(event_type=event_type, details=details))
    assert text
    assert "None" not in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (entry("worker_approved", worker_id="w1"), "pc-07 was approved by anna"),
        (entry("worker_suspended", "engine", "w1", reason="it failed five times"),
         "pc-07 was suspended by the dispatcher: it failed five times"),
        (entry("worker_draining", "engine", "w1", by="the worker itself"),
         "pc-07 takes nothing new: drained by the worker itself"),
        (entry("task_finished", "engine", "w1", attempt=2, outcome="failed", exit_code=3, failure_reason="exit_code"),
         "attempt 2 failed on pc-07: exit code 3"),
        (entry("task_finished", "engine", "w1", attempt=1, outcome="completed", exit_code=0),
         "attempt 1 completed on pc-07"),
        (entry("task_finished", "engine", "w1", attempt=1, outcome="cancelled", failure_reason="cancelled"),
         "attempt 1 was cancelled on pc-07"),
        (entry("task_finished", "engine", failure_reason="staging", detail="the content of the input 'a' is gone"),
         "the task failed: staging: the content of the input 'a' is gone"),
        (entry("task_requeued", "engine", "w1", attempt=1, outcome="failed", failure_reason="timeout", retry_in_s=4.2),
         "attempt 1 failed on pc-07: timeout; queued again, in 4 s at the earliest"),
        (entry("task_requeued", "engine", "w1", attempt=1, outcome="lost", detail="the lease ran out", retry_in_s=0),
         "attempt 1 was lost on pc-07: the lease ran out; queued again"),
        (entry("login_failed", "", username="root", address="10.0.0.3", failures=3, locked=False),
         "sign-in failed for 'root' from 10.0.0.3 (3 failures)"),
        (entry("login_failed", "", username="root", address="10.0.0.3", failures=5, locked=True),
         "sign-in failed for 'root' from 10.0.0.3 (5 failures); further attempts are refused for a while"),
        (entry("account_changed", "operator", username="admin", change="created", roles=["Admin"]),
         "the account 'admin' was created by an operator at the command line (roles Admin)"),
        (entry("join_token_created", token_id="ab12", uses=1, auto_approve=True),
         "anna made the join token ab12 for 1 machine, approved at once"),
        (entry("files_expired", "engine", outputs=2, uploads=0, inputs=0, contents=1, bytes=10),
         "over their time and removed: 2 outputs, 1 content (10 bytes)"),
        (entry("audit_exported", format="csv", filters={"actor": "bo"}), "anna exported the audit as csv (actor bo)"),
        (entry("audit_contradicted", "engine", "w1", detail="x", head="0", row=5, explained_by_row=4),
         "pc-07 holds a checkpoint that contradicts the audit: x; explained by the backup restored at row 4"),
        (entry("audit_contradicted", "engine", detail="row 5 was replaced"),
         "the cluster itself kept a checkpoint that contradicts the audit: row 5 was replaced"),
        (entry("audit_pruned", "operator", first_row=1, last_row=7, rows=7),
         "an operator at the command line removed 7 old rows of the audit, up to row 7"),
        (entry("database_restored", "operator", backup="b.db", row=3),
         "an operator at the command line restored the backup 'b.db'; the audit goes on behind its row 3"),
        (entry("worker_refused", "engine", address="10.0.0.9", code="bad_proof", detail="TLS: certificate has expired", count=45),
         "a worker at 10.0.0.9 was refused: TLS: certificate has expired, the last of 45 more"),
        (entry("something_new", much="more"), "something new: much more"),
    ],
)  # fmt: skip
def test_rows_read_as_sentences(row: AuditEntry, text: str) -> None:
    """Who did what to whom, and why."""
    assert describe(row, {"w1": "pc-07"}) == text


def test_a_worker_without_a_name_is_called_by_its_id() -> None:
    """As with a worker that is not on the whitelist at all."""
    assert describe(entry("worker_connected", "engine", "0123456789ab")) == "01234567 connected"
