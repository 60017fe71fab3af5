"""Where steps end, when samples are due, what is folded and what is too old."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.steps import (
    EARLY_S,
    FOLDED_S,
    KEEP_SAMPLES_S,
    MAX_POINTS,
    SAMPLE_S,
    foldable_until,
    next_sample_in,
    sample_end,
    step_end,
    step_of_span,
    too_old,
)

MOMENTS = st.floats(min_value=1e9, max_value=2e9)


@pytest.mark.parametrize(("at", "end"), [(0, 0), (1, 300), (299.9, 300), (300, 300), (300.1, 600)])
def test_what_ends_with_a_step_belongs_to_it(at, end):
    """A step is open at its beginning and closed at its end."""
    assert step_end(at, FOLDED_S) == end


@given(MOMENTS)
def test_no_step_is_sampled_twice_and_none_ends_in_the_future(now):
    """Whoever sleeps as told, and wakes a little early or late, samples the very next step."""
    end = sample_end(now)
    assert end % SAMPLE_S == 0
    assert now - SAMPLE_S < end <= now + EARLY_S
    woken_at = now + next_sample_in(now)
    assert [sample_end(woken_at - 0.1), sample_end(woken_at + 5)] == [end + SAMPLE_S] * 2


@given(MOMENTS)
def test_a_step_is_folded_only_when_its_last_sample_is_surely_there(now):
    """A sample that is late by nearly a step still comes before the folding."""
    until = foldable_until(now)
    assert until % FOLDED_S == 0
    assert until <= now - SAMPLE_S < until + FOLDED_S


def test_samples_go_after_two_hours_and_means_when_told():
    """0 days keep the means for ever; the samples go all the same."""
    assert too_old(1_000_000, 7) == {SAMPLE_S: 1_000_000 - 7200, FOLDED_S: 1_000_000 - 7 * 86_400}
    assert too_old(1_000_000, 0) == {SAMPLE_S: 1_000_000 - 7200}


@given(st.integers(min_value=1, max_value=24 * 3650))
def test_every_span_has_a_step_with_few_points_that_rows_can_fill(hours):
    """Up to ten years come to a thousand points at most, in steps that rows of one of both kinds make up evenly."""
    span_s = hours * 3600
    step_s = step_of_span(span_s)
    assert span_s / step_s <= MAX_POINTS
    assert step_s % (SAMPLE_S if span_s <= KEEP_SAMPLES_S else FOLDED_S) == 0
    # As fine as possible.
    assert step_s in {SAMPLE_S, FOLDED_S} or span_s / (step_s - FOLDED_S) > MAX_POINTS
