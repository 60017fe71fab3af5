"""Tasks that pause before they are tried again: out of the queue's index until their time has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts_app.plain_sql import read
from accounts_app.roles import Role
from tasks_app import pauses
from tasks_app.ids import new_task_ids
from tasks_app.models import Task
from tasks_app.pauses import end_pauses
from tests.support.statements import statements

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture
def paused_until(user_of):
    """Return a function that puts paused tasks into the database, one for each number of seconds from now."""
    owner = user_of(Role.CLIENT)

    def add(*seconds: float) -> list[str]:
        fields = {
            "command": "true",
            "sandbox": "basic",
            "created_at": NOW,
            "owner": owner,
            "attempt": 1,
            "is_paused": True,
        }
        ids = new_task_ids(len(seconds))
        for key, after_s in zip(ids, seconds, strict=True):
            Task.objects.create(id=key, available_at=NOW + timedelta(seconds=after_s), **fields)
        return ids

    return add


def still_paused() -> list[str]:
    """Return who pauses."""
    return list(Task.objects.filter(is_paused=True).order_by("id").values_list("id", flat=True))


def test_a_pause_ends_when_its_time_has_come(paused_until, monkeypatch):
    """However many end at once; and one that ends later than any pause lasts is over, for the clock was set back."""
    monkeypatch.setattr(pauses, "BATCH_TASKS", 2)
    _, _, _, _, soon, _ = paused_until(-5, -4, -3, -2, 10, 3600)
    end_pauses(NOW)
    assert still_paused() == [soon]
    end_pauses(NOW + timedelta(seconds=11))
    assert still_paused() == []


def test_what_goes_on_pausing_is_not_looked_at(paused_until):
    """The look goes along the index of pauses, and writes nothing while none is over."""
    paused_until(10, 20)
    with statements() as asked:
        end_pauses(NOW)
    [query] = asked
    steps = [row[3] for row in read(f"EXPLAIN QUERY PLAN {query}") if "tasks" in row[3]]
    assert [step.partition("(")[0] for step in steps] == ["SEARCH tasks USING INDEX tasks_paused "] * 2
