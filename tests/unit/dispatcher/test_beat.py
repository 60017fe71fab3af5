"""The moments at which what is done again and again is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.shell.beat import SOONEST, until_next_beat

PERIODS = st.sampled_from([0.25, 0.5, 1.0, 2.0])


@given(PERIODS, st.floats(0, 1e6))
def test_a_beat_is_a_multiple_of_the_period_and_neither_too_near_nor_missed(period_s, now):
    """Wherever one begins to wait."""
    wait_s = until_next_beat(period_s, now)
    assert SOONEST * period_s <= wait_s < (1 + SOONEST) * period_s
    beats = (now + wait_s) / period_s
    assert beats == pytest.approx(round(beats), abs=1e-6)


def test_slower_beats_fall_on_faster_ones():
    """So one wakeup serves both."""
    now = 1234.56
    assert now + until_next_beat(2.0, now) == pytest.approx(1236)
    assert now + until_next_beat(0.5, now) == pytest.approx(1235)


def test_a_timer_that_came_early_waits_for_the_beat_after():
    """Else it would come twice."""
    assert until_next_beat(0.5, 7.999) == pytest.approx(0.501)
