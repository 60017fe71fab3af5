"""How ends become exit codes."""

from __future__ import annotations

from typing import Any

import pytest

from octaskly.answers import Attempt, Task
from octaskly.command_line.exit_codes import exit_code


def ended(reason: str | None, *, code: int | None = None, **attempt: Any) -> tuple[int, str]:
    """Return what the end of a task comes to."""
    status = {None: "completed", "cancelled": "cancelled"}.get(reason, "failed")
    task = Task(id="1", command="x", status=status, failure_reason=reason, exit_code=code, timeout=60)
    return exit_code(task, Attempt(attempt_id="1.1", attempt=1, worker_id="w", state="ended", **attempt))


@pytest.mark.parametrize(
    ("reason", "fields", "expected"),
    [
        (None, {"code": 0}, 0),
        ("exit_code", {"code": 7}, 7),
        ("exit_code", {"code": 256}, 1),
        ("exit_code", {"code": None}, 1),
        ("signal", {"signal": 9}, 137),
        ("signal", {"signal": None}, 1),
        ("timeout", {"signal": 15}, 124),
        ("memory_limit", {"signal": 9}, 1),
        ("missing_output", {"code": 0}, 1),
        ("worker_lost", {}, 1),
        ("cancelled", {}, 1),
        ("something_newer", {}, 1),
    ],
)
def test_each_end_has_its_code(reason, fields, expected) -> None:
    """As a shell shows it; what went well is 0 and nothing else is."""
    assert ended(reason, **fields)[0] == expected


@pytest.mark.parametrize(
    "reason", ["timeout", "memory_limit", "missing_output", "staging", "cancelled", "something_newer"]
)
def test_what_a_code_does_not_tell_is_said(reason) -> None:
    """A sentence goes with it."""
    assert len(ended(reason)[1]) > 15


@pytest.mark.parametrize(("reason", "fields"), [(None, {}), ("exit_code", {"code": 3}), ("signal", {"signal": 2})])
def test_what_a_code_tells_is_not_said_twice(reason, fields) -> None:
    """A failing command has said why by itself."""
    assert ended(reason, **fields)[1] == ""


def test_the_workers_own_words_are_passed_on() -> None:
    """Which output is missing is in the sentence."""
    assert "(missing: out.txt)" in ended("missing_output", detail="missing: out.txt")[1]
