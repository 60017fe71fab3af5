"""The arithmetic of time series: where steps end, which are due for folding, what is too old, which step a chart gets.

Pure. Times are Unix seconds. A step is named by its end, and what ended exactly then belongs to it.
"""

from __future__ import annotations

from typing import Final

SAMPLE_S: Final = 10
"""Between two samples."""
FOLDED_S: Final = 300
"""Of the means that samples give way to."""
EARLY_S: Final = 0.5
KEEP_SAMPLES_S: Final = 2 * 3600
MAX_POINTS: Final = 1000
"""In one answer, give or take the one that the span's ends cut."""
DAY_S: Final = 86_400


def step_end(at: float, step_s: int) -> int:
    """Return the end of the step that a moment belongs to."""
    return int(-(-at // step_s) * step_s)


def sample_end(now: float) -> int:
    """Return which step a sample taken now ends."""
    # A sleep may end a little before its time.
    return int((now + EARLY_S) // SAMPLE_S * SAMPLE_S)


def next_sample_in(now: float) -> float:
    """Return the seconds until the sample after one taken now is due; never the same step again."""
    return sample_end(now) + SAMPLE_S - now


def foldable_until(now: float) -> int:
    """Return the end of the last long step in which no sample can come any more."""
    # A sample is written shortly after the step that it names; one more step leaves it the time.
    return int((now - SAMPLE_S) // FOLDED_S * FOLDED_S)


def too_old(now: float, keep_days: float) -> dict[int, float]:
    """Return for each kind of row, by its step, the time up to which it is let go of; 0 days keep the means for ever."""
    cutoffs = {SAMPLE_S: now - KEEP_SAMPLES_S}
    if keep_days:
        cutoffs[FOLDED_S] = now - keep_days * DAY_S
    return cutoffs


def step_of_span(span_s: float) -> int:
    """Return the step for a chart of this span: that of samples where they are kept, else as many means as are needed."""
    if span_s <= KEEP_SAMPLES_S:
        return SAMPLE_S
    return step_end(span_s / MAX_POINTS, FOLDED_S)
