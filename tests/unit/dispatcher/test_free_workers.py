"""The index of free workers gives what a look at all of them would give."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from dispatcher.core.free_workers import Capability, FreeWorkers, classes_of
from dispatcher.core.placement import Ceiling
from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel

LEVELS = (frozenset({SandboxLevel.BASIC}), frozenset({SandboxLevel.BASIC, SandboxLevel.STRICT}))
CLASSES = [(level, network) for level in SandboxLevel for network in (False, True)]


@dataclass(eq=False)
class Worker:
    """As much of a worker as the index looks at."""

    capability: Capability
    load: float = 0.0
    is_taking_work: bool = True
    free_mark: int = 0


def make_workers(dice: random.Random) -> list[Worker]:
    """Return workers of few kinds and many ceilings."""
    return [
        Worker((dice.choice(LEVELS), dice.random() < 0.5, Ceiling(Limits(memory_mb=dice.randint(1, 6)))))
        for _ in range(dice.randint(1, 25))
    ]


@pytest.mark.parametrize("seed", range(60))
def test_it_agrees_with_a_look_at_all(seed):
    """Whatever is offered, taken, passed over, grows full or leaves in between."""
    dice = random.Random(seed)
    workers, free = make_workers(dice), FreeWorkers()
    offered: dict[int, Worker] = {}
    passed: list[Worker] = []

    def candidates(task_class):
        hidden = {worker.capability for worker in passed}
        return [
            worker
            for worker in offered.values()
            if worker.is_taking_work and task_class in classes_of(worker.capability) and worker.capability not in hidden
        ]

    def offer(worker):
        free.offer(worker)
        offered[id(worker)] = worker

    for _ in range(400):
        step, task_class, worker = dice.random(), dice.choice(CLASSES), dice.choice(workers)
        if step < 0.4 and not passed:
            worker.load, worker.is_taking_work = dice.randint(0, 9) / 10, True
            offer(worker)
        elif step < 0.5:
            worker.is_taking_work = False
            offered.pop(id(worker), None)
        elif step < 0.85:
            expected = candidates(task_class)
            assert free.has_any(task_class) == bool(expected)
            taken = free.take_least_busy(task_class)
            assert (taken.load if taken else None) == min((worker.load for worker in expected), default=None)
            if taken:
                del offered[id(taken)]
                if dice.random() < 0.4:
                    free.pass_over(taken)
                    passed.append(taken)
                elif dice.random() < 0.5 and not passed:
                    taken.load = dice.randint(0, 9) / 10
                    offer(taken)
                else:
                    taken.is_taking_work = False
        elif step < 0.95:
            free.end_round()
            offered |= {id(worker): worker for worker in passed}
            passed.clear()
        elif offered and not passed:
            free.compact(next(iter(offered.values())).capability, -16)


def test_passing_over_costs_one_look_for_each_capability():
    """A thousand free workers alike are out of sight at once."""
    capability = (LEVELS[0], False, Ceiling())
    free = FreeWorkers()
    for _ in range(1000):
        free.offer(Worker(capability))
    free.pass_over(free.take_least_busy((SandboxLevel.BASIC, False)))
    assert not free.has_any((SandboxLevel.BASIC, False))
    free.end_round()
    assert len(free._heaps[capability]) == 1000
