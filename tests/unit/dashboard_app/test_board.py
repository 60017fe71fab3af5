"""A board tells each subscriber what it does not have yet, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dashboard_app.live.board import MAX_GONE, Board

NAMES = st.sampled_from("abcde")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tasks"), st.dictionaries(NAMES, st.integers(0, 2))),
        st.tuples(st.just("workers"), st.dictionaries(NAMES, st.integers(0, 2))),
        st.tuples(st.just("summary"), st.integers(0, 2)),
    ),
    max_size=12,
)


def applied(state: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """Return what a page has after a frame."""
    state = {} if frame["is_full"] else {name: dict(part) for name, part in state.items()}
    for section in ("tasks", "workers"):
        merged = state.get(section, {}) | frame.get(section, {})
        state[section] = {key: value for key, value in merged.items() if value is not None}
    if "summary" in frame:
        state["summary"] = {"": frame["summary"]}
    return state


@given(STEPS, st.data())
def test_frames_add_up_to_the_state_however_seldom_they_are_taken(steps, data):
    """Whoever takes some of the frames ends with what whoever begins at the end gets."""
    board, state, version = Board(), {}, 0
    for section, value in steps:
        if section == "summary":
            board.put_value(section, value)
        else:
            board.put(section, value)
        if data.draw(st.booleans()):
            state, version = applied(state, board.since(version)), board.version
    assert applied(state, board.since(version)) == applied({}, board.since(0))


def test_what_did_not_change_is_absent():
    """Neither a section, nor a key, nor a version for a put that changes nothing."""
    board = Board()
    board.put("tasks", {"a": {"status": "queued"}, "b": {"status": "queued"}})
    board.put("workers", {"w": {"slots": 1}})
    board.put_value("summary", 1)
    version = board.version
    board.put("tasks", {"a": {"status": "queued"}, "b": {"status": "queued"}})
    board.put_value("summary", 1)
    assert board.version == version
    board.put("tasks", {"b": {"status": "running"}})
    frame = board.since(version)
    assert frame == {
        "type": "state", "version": board.version, "is_full": False, "tasks": {"a": None, "b": {"status": "running"}},
    }  # fmt: skip


def test_a_full_frame_has_empty_sections_too():
    """So that a page forgets what it showed before its connection broke."""
    board = Board()
    board.put("tasks", {})
    assert board.since(0) == {"type": "state", "version": 0, "is_full": True, "tasks": {}}


def test_events_come_once_and_are_bounded():
    """A look may find again what it found before; whoever comes late gets the newest only."""
    board = Board(max_events=3)
    board.add_events([{"id": 1}, {"id": 2}])
    version = board.version
    board.add_events([{"id": 2}, {"id": 3}, {"id": 4}, {"id": 5}])
    assert board.since(version)["events"] == [{"id": 3}, {"id": 4}, {"id": 5}] == board.since(0)["events"]
    board.add_events([{"id": 5}])
    assert "events" not in board.since(board.version)
    assert board.last_event_id == 5


def test_whoever_is_too_far_behind_gets_everything_again():
    """Removals are remembered up to a bound, and never passed over in silence."""
    board = Board()
    board.put("tasks", {"a": 1, "b": 2})
    behind = board.version
    board.put("tasks", {"b": 2})
    for number in range(MAX_GONE + 1):
        board.put("tasks", {"b": 2, str(number): 0})
    assert len(board._gone) == MAX_GONE
    frame = board.since(behind)
    assert frame["is_full"]
    assert frame["tasks"] == {"b": 2, str(MAX_GONE): 0}
    assert not board.since(board.version - 1)["is_full"]
