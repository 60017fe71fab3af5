"""The table of status steps."""

from __future__ import annotations

import pytest

from tasks_app.models import TaskStatus
from tasks_app.transitions import ALLOWED, ENDED, is_allowed

EXPECTED = {
    ("queued", "running"), ("queued", "completed"), ("queued", "failed"), ("queued", "cancelled"),
    ("running", "completed"), ("running", "failed"), ("running", "cancelled"), ("running", "queued"),
    ("completed", "queued"), ("failed", "queued"), ("cancelled", "queued"),
}  # fmt: skip


@pytest.mark.parametrize("before", list(TaskStatus))
@pytest.mark.parametrize("after", list(TaskStatus))
def test_each_pair_is_decided(before, after):
    """Of the 25 pairs exactly the written ones are steps."""
    assert is_allowed(before, after) is ((before.value, after.value) in EXPECTED)


def test_ended_means_only_a_wish_leads_on():
    """From an ended status only a retry leads anywhere."""
    assert {status for status, allowed in ALLOWED.items() if allowed == {TaskStatus.QUEUED}} == ENDED
