"""Why a task waits, in plain words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher.ports import TaskNeeds, WorkerView, explain_waiting
from octaskly_wire.vocabulary import Admission, SandboxLevel

FREE = WorkerView(
    worker_id="w", name="pc-07", admission=Admission.APPROVED, is_connected=True, is_draining=False,
    levels=frozenset({SandboxLevel.NONE, SandboxLevel.BASIC}), allows_network=False, memory_mb=5000, slots=2,
    live_attempts=0,
)  # fmt: skip
BASIC = TaskNeeds(SandboxLevel.BASIC, network=False)


@pytest.mark.parametrize(
    ("needs", "changes", "words", "is_lasting"),
    [
        (TaskNeeds(SandboxLevel.STRICT, network=False), {}, "strict", True),
        (TaskNeeds(SandboxLevel.BASIC, network=True), {}, "network", True),
        (TaskNeeds(SandboxLevel.BASIC, network=False, memory_mb=8000), {}, "8000 MB", True),
        (BASIC, {"admission": Admission.PENDING}, "pending", True),
        (BASIC, {"is_connected": False}, "not connected", False),
        (BASIC, {"is_draining": True}, "draining", False),
        (BASIC, {"live_attempts": 2}, "no free slot (2 of 2", False),
        (BASIC, {}, "is free", False),
    ],
)
def test_each_obstacle_is_named(needs, changes, words, is_lasting):
    """The first obstacle is said, and whether waiting alone can remove it."""
    (explanation,) = explain_waiting(needs, [replace(FREE, **changes)])
    assert words in explanation.reason
    assert explanation.is_lasting is is_lasting
    assert explanation.worker_name == "pc-07"
