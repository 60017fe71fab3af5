"""Why a task waits, in plain words."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dispatcher.core.placement import ceiling_of, lasting_obstacle, lasting_obstacles
from dispatcher.core.prospects import NOBODY_JOINED
from dispatcher.ports import Ceiling, Prospects, TaskNeeds, WorkerView, explain_waiting
from octaskly_wire.messages import Limits, UnprovenLevel
from octaskly_wire.vocabulary import Admission, SandboxLevel

FREE = WorkerView(
    worker_id="w", name="pc-07", admission=Admission.APPROVED, is_connected=True, is_draining=False,
    levels=frozenset({SandboxLevel.NONE, SandboxLevel.BASIC}), allows_network=False, memory_mb=5000, slots=2,
    live_attempts=0,
)  # fmt: skip
BASIC = TaskNeeds(SandboxLevel.BASIC, network=False)
STRICT = TaskNeeds(SandboxLevel.STRICT, network=False)


def asking(timeout_s=60, **limits):
    """Return the needs of a task at level basic that asks for these limits."""
    return TaskNeeds(SandboxLevel.BASIC, network=False, limits=Limits(**limits), timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("needs", "changes", "words", "is_lasting"),
    [
        (STRICT, {}, "does not offer strict, only none, basic", True),
        (TaskNeeds(SandboxLevel.BASIC, network=True), {}, "does not let tasks use the network", True),
        (asking(memory_mb=8192), {}, "needs 8 GB of memory, has 4.9 GB", True),
        (asking(memory_mb=5001), {}, "needs 5001 MB of memory, has 5000 MB", True),
        (BASIC, {"admission": Admission.PENDING}, "waits for approval", True),
        (BASIC, {"admission": Admission.SUSPENDED, "admission_reason": "it fails"}, "suspended: it fails", True),
        (BASIC, {"is_connected": False, "last_seen_ago_s": 200.0}, "not connected, last seen 3 min ago", False),
        (BASIC, {"is_connected": False, "slots": 0, "levels": frozenset()}, "not connected, never seen", False),
        (BASIC, {"is_draining": True}, "draining", False),
        (BASIC, {"pause_reason": "the disk is full"}, "paused: the disk is full", False),
        (BASIC, {"live_attempts": 2}, "all 2 slots busy", False),
        (BASIC, {"live_attempts": 1, "slots": 1}, "its only slot is busy", False),
        (BASIC, {}, "free, about to be given a task", False),
        (
            asking(memory_mb=4096), {"live_attempts": 2, "free_memory_mb": 1024},
            "all 2 slots busy (1 GB of its memory free now, the task may use 4 GB)", False,
        ),
    ],
)  # fmt: skip
def test_each_obstacle_is_named(needs, changes, words, is_lasting):
    """The first obstacle is said, and whether waiting alone can remove it."""
    (explanation,) = explain_waiting(needs, [replace(FREE, **changes)])
    assert explanation.reason == words
    assert explanation.is_lasting is is_lasting
    assert explanation.worker_name == "pc-07"


def test_who_could_run_it_soonest_comes_first():
    """Free before busy, many slots before few, seen lately before long ago, and last who never will as things stand."""
    workers = {
        "suspended": {"admission": Admission.SUSPENDED},
        "newcomer": {"admission": Admission.PENDING},
        "long gone": {"is_connected": False, "last_seen_ago_s": 9e5},
        "gone": {"is_connected": False, "last_seen_ago_s": 60.0},
        "draining": {"is_draining": True},
        "paused": {"pause_reason": "the disk is full"},
        "small": {"live_attempts": 2},
        "large": {"live_attempts": 64, "slots": 64},
        "free": {},
    }
    views = [replace(FREE, worker_id=name, name=name, **changes) for name, changes in workers.items()]
    assert [found.worker_name for found in explain_waiting(BASIC, views)] == list(reversed(workers))


@pytest.mark.parametrize(
    ("needs", "changes", "words"),
    [
        (BASIC, [], NOBODY_JOINED),
        (BASIC, [{}], None),
        (BASIC, [{"live_attempts": 2}], None),
        (BASIC, [{"is_connected": False, "last_seen_ago_s": 7300.0}], "pc-07 was last seen 2 h ago"),
        (STRICT, [{}, {"is_connected": False, "levels": frozenset({SandboxLevel.STRICT})}], "pc-07 was never seen"),
        (BASIC, [{"admission": Admission.PENDING}], "No worker can run this as it is. Closest is pc-07: waits for appr"),
        (
            asking(memory_mb=8192, timeout_s=700), [{"max_timeout_s": 60}, {"name": "pc-08", "memory_mb": 4096}],
            "Closest is pc-08: needs 8 GB of memory, has 4 GB.",
        ),
        (
            asking(memory_mb=8192, timeout_s=700), [{"max_timeout_s": 60}],
            "needs 8 GB of memory, has 4.9 GB; allows a time-out of at most 60 s, needs 700 s.",
        ),
    ],
)  # fmt: skip
def test_what_nothing_can_run_is_foreseen(needs, changes, words):
    """Nobody joined, nobody able, nobody able there; who lacks least is named with all that it lacks."""
    prospects = Prospects([replace(FREE, **change) for change in changes])
    for _ in range(2):  # Looked up, and remembered.
        said = prospects.warning(needs)
        assert said is None if words is None else words in said


def test_what_is_foreseen_is_what_a_look_at_every_worker_finds():
    """Whom the look leaves out never makes a difference, neither for what runs nor for what the closest lacks."""
    dice = random.Random(7)

    def some_worker(number):
        return replace(
            FREE, worker_id=str(number), name="pc", is_connected=dice.random() < 0.7,
            admission=dice.choice([Admission.APPROVED, Admission.APPROVED, Admission.PENDING]),
            levels=frozenset(dice.sample(list(SandboxLevel), 2)), allows_network=dice.random() < 0.5,
            memory_mb=dice.choice([1, 2, 4]), max_limits=Limits(processes=dice.choice([None, 1, 2])),
            max_timeout_s=dice.choice([None, 1, 2]),
        )  # fmt: skip

    outcomes = set()
    for _ in range(300):
        workers = [some_worker(number) for number in range(dice.randint(1, 12))]
        limits = Limits(memory_mb=dice.choice([None, 1, 3, 4]), processes=dice.choice([None, 1, 3]))
        needs = TaskNeeds(dice.choice(list(SandboxLevel)), dice.random() < 0.5, limits, dice.choice([1, 2, 9]))
        lacks = [(list(lasting_obstacles(needs, worker)), worker) for worker in workers]
        said = Prospects(workers).warning(needs)
        able = [worker for found, worker in lacks if not found]
        if any(worker.is_connected for worker in able):
            assert said is None
        elif able:
            assert "is connected now" in said
        else:
            assert len(said.split("; ")) == min(len(found) for found, _ in lacks)
        outcomes.add((bool(able), said is None))
    assert len(outcomes) == 3


def test_a_ceiling_admits_what_its_worker_has_nothing_against():
    """The queue asks the ceiling, people are told what the worker lacks: both mean the same."""
    dice = random.Random(8)
    seen = set()
    for _ in range(500):
        caps = Limits(memory_mb=dice.choice([None, 1, 3]), processes=dice.choice([None, 2]))
        worker = replace(
            FREE, memory_mb=dice.choice([1, 2, 4]), max_limits=caps, max_timeout_s=dice.choice([None, 1, 2])
        )
        asked = {name: dice.choice([None, 1, 2, 3]) for name in ("memory_mb", "processes", "open_files")}
        needs = asking(dice.choice([1, 2, 3]), **asked)
        ceiling = ceiling_of(worker.memory_mb, worker.max_limits, worker.max_timeout_s)
        admits = ceiling.admits(needs.limits, needs.timeout_s)
        assert admits is (lasting_obstacle(needs, worker) is None)
        seen.add(admits)
    assert seen == {True, False}


CAPS = Limits(memory_mb=4096, cpu_seconds=60, processes=64, open_files=1024, disk_mb=512)


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (asking(memory_mb=4097), "needs 4097 MB of memory, allows 4096 MB"),
        (asking(cpu_seconds=600), "needs 600 s of processor time, allows 60 s"),
        (asking(processes=65), "needs 65 processes, allows 64"),
        (asking(open_files=4096), "needs 4096 open files, allows 1024"),
        (asking(disk_mb=2048), "needs 2 GB of disk, allows 0.5 GB"),
        (asking(timeout_s=3600), "allows a time-out of at most 600 s, needs 3600 s"),
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
        (SandboxLevel.STRICT, [], "does not offer strict, only none, basic"),
        (
            SandboxLevel.STRICT,
            [UnprovenLevel(SandboxLevel.STRICT, "user namespaces are forbidden")],
            "cannot prove strict: user namespaces are forbidden",
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
    assert lasting_obstacle(BASIC, worker) == "does not offer basic: its owner allows nothing below strict"


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
