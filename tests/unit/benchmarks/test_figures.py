"""What the benchmark programs say of their figures."""

from __future__ import annotations

import pytest

from benchmarks.figures import Target, judge, percentile, shown
from benchmarks.throughput import targets


def test_a_percentile_is_one_of_the_values():
    """Of a hundred the 99th is the last but one; of few it is the largest."""
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([3, 1, 2], 99) == 3
    assert percentile([7], 0) == 7


@pytest.mark.parametrize(
    ("target", "is_met"),
    [
        (Target("tasks/s", 400, 400), True),
        (Target("tasks/s", 399, 400), False),
        (Target("ms", 8, 8, is_ceiling=True), True),
        (Target("ms", 8.1, 8, is_ceiling=True), False),
    ],
)
def test_one_missed_target_fails_the_program(target, is_met, capsys):
    """The table has the ratio, and the exit code tells whether all were met."""
    assert judge([Target("other", 2, 1), target]) == (0 if is_met else 1)
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"{target.measured / target.bound:.2f}" in line
    assert line.endswith("MISSED") is not is_met


def test_figures_have_the_digits_that_matter():
    """Large ones are whole."""
    assert [shown(value) for value in (12345.6, 99.94, 0.5123)] == ["12,346", "99.9", "0.512"]


def test_who_is_not_here_sets_no_target():
    """Peers are optional; the machine's limit is not. Of two ways to run Dask the better one counts."""
    rates = {"basic": 1000.0, "strict": 300.0}
    assert [target.bound for target in targets(rates, 1800)] == [900]
    rates |= {"HyperQueue": 450, "Dask, 1 thread a process": 200, "Dask, 2 threads a process": 300, "bubblewrap": 310}
    assert [target.is_met for target in targets(rates, 1800)] == [True, True, True, False]
    assert [target.bound for target in targets(rates, 1800)] == [900, 900, 600, 310]
