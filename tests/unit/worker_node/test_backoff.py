"""Delays between tries."""

from __future__ import annotations

import pytest

from worker_node.core.backoff import reconnect_delay_s


@pytest.mark.parametrize("failures", range(0, 2000, 13))
def test_delays_stay_within_their_bounds(failures):
    """Never under 0.2 s, never over 5 s, however often it failed."""
    delays = [reconnect_delay_s(failures, fraction) for fraction in (0.0, 0.5, 1.0)]
    assert delays == sorted(delays)
    assert delays[0] == 0.2
    assert delays[2] <= 5.0


def test_the_range_grows_to_its_ceiling():
    """Full jitter: the upper end doubles, the lower stays."""
    assert [round(reconnect_delay_s(failures, 1.0), 3) for failures in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
