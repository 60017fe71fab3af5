"""What happened is counted once for the samples and for five minutes for the rates."""

from __future__ import annotations

from collections import Counter

from metrics_app.tally import GRAIN_S, WINDOW_S, Happened, Tally


class Clock:
    """A time that the test passes in."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


def ended(**counts: int) -> Happened:
    """Return endings."""
    return Happened(ended=Counter(counts))


def test_what_was_taken_and_could_not_be_written_is_told_by_the_next_sample():
    """Nothing is counted twice and nothing is lost on the way to the table."""
    tally = Tally(Clock())
    tally.note(Happened(Counter(completed=2), commits=1, commit_seconds=0.5, starts=3, queue_wait_seconds=6))
    taken = tally.take()
    assert tally.take() == Happened()
    tally.note(ended(completed=1, failed=1))
    tally.give_back(taken)
    assert tally.take() == Happened(Counter(completed=3, failed=1), 1, 0.5, 3, 6)


def test_rates_are_of_the_last_five_minutes():
    """Taking a sample changes no rate; time does, and without an end there is no ratio."""
    clock = Clock()
    tally = Tally(clock)
    assert tally.recent_rates() == {"completed_per_min": 0, "failed_per_min": 0, "failed_ratio": None}
    tally.note(ended(completed=10, cancelled=4))
    clock.now += 200
    tally.note(ended(completed=5, failed=5))
    tally.take()
    assert tally.recent_rates() == {"completed_per_min": 3, "failed_per_min": 1, "failed_ratio": 0.25}
    clock.now += 150
    assert tally.recent_rates() == {"completed_per_min": 1, "failed_per_min": 1, "failed_ratio": 0.5}
    clock.now += WINDOW_S
    assert tally.recent_rates()["failed_ratio"] is None


def test_the_window_is_bounded_whatever_comes():
    """A hundred thousand endings in a row leave a few entries, and a clock that is set back leaves none from ahead."""
    clock = Clock()
    tally = Tally(clock)
    for _ in range(100_000):
        clock.now += 0.01
        tally.note(ended(completed=1))
    assert len(tally._window) <= WINDOW_S / GRAIN_S + 2
    assert tally.recent_rates()["completed_per_min"] > 5900
    clock.now -= 5000
    assert tally.recent_rates()["completed_per_min"] == 0


def test_an_earlier_process_counts_for_the_rates_only():
    """What its rows told is not written once more."""
    clock = Clock()
    tally = Tally(clock)
    tally.remember([(690.0, Counter(completed=50)), (900.0, Counter(completed=5)), (910.0, Counter(failed=5))])
    assert tally.recent_rates() == {"completed_per_min": 1, "failed_per_min": 1, "failed_ratio": 0.5}
    assert tally.take() == Happened()
