"""How far apart commits begin, by how much there is to commit."""

from __future__ import annotations

import pytest

from dispatcher.core.commit_spacing import MAX_SPACING_S, CommitSpacing


def distance_s(records, every_s, commits=200):
    """Return what the last of many commits of this size, as far apart as that, asks for."""
    spacing = CommitSpacing()
    for number in range(commits):
        spacing.note(records, number * every_s)
    return spacing.next_at - (commits - 1) * every_s


def test_tasks_one_after_another_are_never_held_up():
    """Each takes a claim and an outcome, and comes when the last one was seen to end."""
    spacing, now = CommitSpacing(), 1000.0
    for _ in range(400):
        spacing.note(1, now)
        assert spacing.next_at == now
        now += 0.0025


@pytest.mark.parametrize(("records", "every_s"), [(4, 0.001), (48, 0.024), (2000, 0.1)])
def test_under_full_load_commits_keep_the_whole_distance(records, every_s):
    """However large the groups are."""
    assert distance_s(records, every_s) == pytest.approx(MAX_SPACING_S, rel=0.3)


def test_between_them_the_distance_grows_with_the_rate():
    """Not with the size of one commit: the distance may not settle what it depends on."""
    small, large = distance_s(1, 0.001), distance_s(10, 0.01)
    assert 0 < small < MAX_SPACING_S
    assert small == pytest.approx(large, rel=0.5)


def test_after_a_rest_nothing_waits():
    """A large commit is forgotten within a second."""
    spacing = CommitSpacing()
    spacing.note(2000, 50.0)
    spacing.note(3, 51.0)
    assert spacing.next_at == 51.0
