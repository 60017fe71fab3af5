"""Two thousand stories of a cluster in trouble, each from a seed, with the promises checked after every step."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import run_seed
from tests.simulation.scenario import FLAVOURS, tell

SEEDS = 2000
SEEDS_AT_ONCE = 100
"""Told by every `make test`; `make slow` tells the rest."""
SEEDS_A_TEST = 100


def _parts():
    for first in range(0, SEEDS, SEEDS_A_TEST):
        yield pytest.param(first, marks=[pytest.mark.slow] if first >= SEEDS_AT_ONCE else [])


@pytest.mark.parametrize("first", list(_parts()))
def test_promises_hold_in_every_story(first):
    """Nothing acknowledged is lost, outcomes count once and for the right attempt, and every task ends."""
    for seed in range(first, first + SEEDS_A_TEST):
        failure = run_seed(seed).failure
        assert not failure, failure


def test_a_seed_tells_the_same_story_twice():
    """A failing seed can be looked at again, step by step."""
    seed = 5 * 7
    traces = []
    for _ in range(2):
        cluster, happen = tell(seed)
        story = happen()
        traces.append((story, list(cluster.world.trace or ())))
    assert traces[0] == traces[1]


@pytest.mark.slow
def test_stories_are_worth_telling():
    """The faults really strike: kills, late outcomes, suspensions, commands that run again; and what waits too long goes back."""
    stories = [run_seed(seed).story for seed in range(40 * len(FLAVOURS))]
    told = [story for story in stories if story]
    assert sum(story.counts.kills for story in told) > 100
    assert sum(story.superseded for story in told) > 0
    assert sum(story.suspensions for story in told) > 0
    assert sum(story.re_executions for story in told) > 0
    assert sum(story.searches for story in told) > 0
    assert sum(story.handed_back for story in told) > 0
    assert {story.flavour for story in told} == {flavour.name for flavour in FLAVOURS}
