"""Task ids are the order of the queue."""

from __future__ import annotations

import uuid

from tasks_app import ids


def test_ids_grow_within_and_between_calls():
    """Each id is greater than every earlier one, as text."""
    made = [*ids.new_task_ids(1000), *ids.new_task_ids(1000), *ids.new_task_ids(1)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_are_uuids_of_version_7():
    """Other tools can read the time out of an id."""
    parsed = uuid.UUID(ids.new_task_ids(1)[0])
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122


def test_ids_grow_when_the_clock_goes_back(monkeypatch):
    """The order of the queue survives a clock that is set back."""
    before = ids.new_task_ids(1)[0]
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    assert ids.new_task_ids(1)[0] > before


def test_ids_grow_over_any_border_within_them(monkeypatch):
    """Also where several digits turn at once, and not only the last ones."""
    borders = [(0x0123456789AB << 74) + (1 << bits) for bits in (16, 48, 62)]
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    for border in borders:
        monkeypatch.setattr(ids, "_last", border - 3)
        made = [uuid.UUID(text) for text in ids.new_task_ids(5)]
        assert made == sorted(set(made))
        assert {one.version for one in made} == {7}
