"""Why a task waits, in plain words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher.core.placement import ceiling_of, lasting_obstacle
from dispatcher.ports import Ceiling, TaskNeeds, WorkerView, explain_waiting
from octaskly_wire.messages import Limits, UnprovenLevel
from octaskly_wire.vocabulary import Admission, SandboxLevel

FREE = WorkerView(
    worker_id="w", name="pc-07", admission=Admission.APPROVED, is_connected=True, is_draining=False,
    levels=frozenset({SandboxLevel.NONE, SandboxLevel.BASIC}), allows_network=False, memory_mb=5000, slots=2,
    live_attempts=0,
)  # fmt: skip
BASIC = TaskNeeds(SandboxLevel.BASIC, network=False)


def asking(timeout_s=60, **limits):
    """Return the needs of a task at level basic that asks for these limits."""
    return TaskNeeds(SandboxLevel.BASIC, network=False, limits=Limits(**limits), timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("needs", "changes", "words", "is_lasting"),
    [
        (TaskNeeds(SandboxLevel.STRICT, network=False), {}, "strict", True),
        (TaskNeeds(SandboxLevel.BASIC, network=True), {}, "network", True),
        (asking(memory_mb=8000), {}, "has 5000 MB of memory, the task asks for 8000 MB", True),
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


CAPS = Limits(memory_mb=4096, cpu_seconds=60, processes=64, open_files=1024, disk_mb=512)


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (asking(memory_mb=4097), "allows 4096 MB of memory, the task asks for 4097 MB"),
        (asking(cpu_seconds=600), "allows 60 s of processor time, the task asks for 600 s"),
        (asking(processes=65), "allows 64 processes, the task asks for 65"),
        (asking(open_files=4096), "allows 1024 open files, the task asks for 4096"),
        (asking(disk_mb=2048), "allows 512 MB of disk, the task asks for 2048 MB"),
        (asking(timeout_s=3600), "allows a time-out of 600 s, the task asks for 3600 s"),
    ],
)
def test_what_goes_beyond_a_cap_is_said_with_both_numbers(needs, words):
    """Waiting alone will not change it; at the cap itself, or without one, nothing is in the way."""
    capped = replace(FREE, max_limits=CAPS, max_timeout_s=600)
    (explanation,) = explain_waiting(needs, [capped])
    assert (explanation.reason, explanation.is_lasting) == (words, True)
    assert lasting_obstacle(TaskNeeds(SandboxLevel.BASIC, network=False, limits=CAPS, timeout_s=600), capped) is None
    assert lasting_obstacle(needs, FREE) is None


@pytest.mark.parametrize(
    ("level", "unproven", "words"),
    [
        (SandboxLevel.STRICT, [], "does not offer sandbox level strict (offers: none, basic)"),
        (
            SandboxLevel.STRICT,
            [UnprovenLevel(SandboxLevel.STRICT, "user namespaces are forbidden")],
            "does not offer sandbox level strict (cannot prove it: user namespaces are forbidden)",
        ),
    ],
)
def test_a_level_that_is_not_offered_says_why(level, unproven, words):
    """The worker's own reason, as far as it gave one."""
    worker = replace(FREE, unproven=unproven)
    assert lasting_obstacle(TaskNeeds(level, network=False), worker) == words


def test_a_level_below_the_floor_is_the_owners_wish():
    """Whether the host could prove it or not: the words name the floor."""
    below = [
        UnprovenLevel(level, "below this worker's floor (strict)", is_below_floor=True)
        for level in (SandboxLevel.NONE, SandboxLevel.BASIC)
    ]
    worker = replace(FREE, levels=frozenset({SandboxLevel.STRICT}), unproven=below)
    assert lasting_obstacle(BASIC, worker) == (
        "does not offer sandbox level basic (its owner allows nothing below strict)"
    )


def test_a_ceiling_covers_what_fits_under_a_lower_one():
    """None is higher than any number; a ceiling covers itself; of two that cross neither covers the other."""
    low, high = Ceiling(Limits(memory_mb=100), 60), Ceiling(Limits(memory_mb=200))
    crossing = Ceiling(Limits(memory_mb=100, processes=5))
    assert high.covers(low)
    assert not low.covers(high)
    assert low.covers(low)
    assert not crossing.covers(low)
    assert not low.covers(crossing)
    assert Ceiling().covers(crossing)


@pytest.mark.parametrize(("cap_mb", "ceiling_mb"), [(None, 1000), (500, 500), (5000, 1000)])
def test_no_task_gets_more_memory_than_the_machine_has(cap_mb, ceiling_mb):
    """The lower of cap and machine counts."""
    assert ceiling_of(1000, Limits(memory_mb=cap_mb), None).limits.memory_mb == ceiling_mb
