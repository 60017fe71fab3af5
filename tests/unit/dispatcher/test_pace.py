"""How many attempts may wait at a worker follows from how long its slots take for a turn, not from the commands alone."""

from __future__ import annotations

from dispatcher.core.pace import AHEAD_S, MAX_AHEAD_A_SLOT, UNMEASURED_AHEAD_A_SLOT, Pace

SLOTS = 4
SHORT_S = 0.002


def work_off(pace: Pace, count: int, turn_s: float, *, since: float = 0.0, at_a_time: int = 1, left: int = 32) -> float:
    """Let a busy worker end short attempts, each slot one a turn, some told at a time; return when it is done."""
    now = since
    for number in range(1, count + 1):
        if number % at_a_time == 0:
            now += at_a_time * turn_s / SLOTS
        pace.note(SHORT_S, SLOTS, left, now)
    return now


def test_a_slow_turn_of_short_commands_leaves_less_waiting():
    """On a busy machine all that a worker does around a command may take twenty times the command."""
    pace = Pace()
    work_off(pace, 100, 0.04)
    assert pace.ahead == int(AHEAD_S / 0.04) * SLOTS


def test_outcomes_that_come_many_at_a_time_count_alike():
    """Workers gather what they tell."""
    pace = Pace()
    work_off(pace, 320, 0.04, at_a_time=10)
    assert pace.ahead == int(AHEAD_S / 0.04) * SLOTS


def test_a_quick_turn_lets_as_many_wait_as_may():
    """Then no slot waits for the next order."""
    pace = Pace()
    work_off(pace, 200, 0.004)
    assert pace.ahead == MAX_AHEAD_A_SLOT * SLOTS


def test_as_long_as_no_turn_is_known_few_wait():
    """A worker with nothing left behind an outcome idles: that says nothing of its turns."""
    pace = Pace()
    work_off(pace, 100, 0.04, left=0)
    assert pace.ahead == UNMEASURED_AHEAD_A_SLOT * SLOTS


def test_a_slow_turn_does_not_last_for_ever():
    """One may always wait for each slot of a worker whose commands are short, so that turns are measured again."""
    pace = Pace()
    now = work_off(pace, 100, 0.4)
    assert pace.ahead == SLOTS
    work_off(pace, 200, 0.004, since=now)
    assert pace.ahead == MAX_AHEAD_A_SLOT * SLOTS
