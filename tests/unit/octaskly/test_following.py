"""A followed stream goes on at the very byte after it broke, whatever was shown between its bytes."""

from __future__ import annotations

import pytest

from octaskly import errors
from octaskly.effects import Answer, NoAnswer
from octaskly.flows import following
from octaskly.flows.calls import FIRST_PAUSE_S
from octaskly.frames import AttemptBegins, End, FrameReader, Gap, Piece
from tests.unit.octaskly.flow_script import Played, answer, signed_in

OPENED = Answer(200, {}, b"")
LOST = NoAnswer("reset")
LIFE = b"attempt 1\noutput 0 4\na\nb\nattempt 2\noutput 0 2\nxygap 2 10\noutput 12 1\nzend completed\n"


def test_frames_are_read_whole() -> None:
    """Lines, and after an `output` line so many bytes, whatever is in them."""
    assert list(FrameReader().feed(LIFE)) == [
        AttemptBegins(1),
        Piece(0, b"a\nb\n"),
        AttemptBegins(2),
        Piece(0, b"xy"),
        Gap(2, 10),
        Piece(12, b"z"),
        End(),
    ]


@pytest.mark.parametrize("length", range(1, len(LIFE)))
def test_frames_may_come_in_any_parts(length) -> None:
    """A cut anywhere loses nothing, and each part of a piece knows its offset."""
    reader = FrameReader()
    parts = [LIFE[start : start + length] for start in range(0, len(LIFE), length)]
    frames = [frame for part in parts for frame in reader.feed(part)]
    shown = b"".join(frame.data for frame in frames if isinstance(frame, Piece))
    assert shown == b"a\nb\nxyz"
    offsets = [range(frame.offset, frame.offset + len(frame.data)) for frame in frames if isinstance(frame, Piece)]
    assert [place for offset in offsets for place in offset] == [0, 1, 2, 3, 0, 1, 12]
    assert [frame for frame in frames if not isinstance(frame, Piece)] == [
        AttemptBegins(1),
        AttemptBegins(2),
        Gap(2, 10),
        End(),
    ]


@pytest.mark.parametrize("body", [b"plain text\n", b"output 1\n", b"output x 1\n", b"no line at all" * 20])
def test_what_is_no_frame_is_told(body) -> None:
    """A server that does not know of frames is named as the cause."""
    with pytest.raises(errors.BadAnswer, match="older"):
        list(FrameReader().feed(body))


def test_a_broken_stream_goes_on_where_it_was() -> None:
    """No byte twice, none left out, as often as it breaks; a stream that just ends was not all."""
    script = [OPENED, b"attempt 1\noutput 0 9\nabc", LOST, OPENED, b"attempt 1\noutput 3 1\nd", b"", OPENED]
    played = Played(following.follow(signed_in(), "1", "stdout"), *script, b"attempt 1\noutput 4 1\neend completed\n")
    assert b"".join(played.items) == b"abcde"
    assert [request.query for request in played.requests] == [
        {"follow": "1", "framed": "1"},
        {"follow": "1", "framed": "1", "from_attempt": "1", "offset": "3"},
        {"follow": "1", "framed": "1", "from_attempt": "1", "offset": "4"},
    ]
    assert played.requests[0].timeout_s is None, "a quiet command is no reason to hang up"
    assert played.pauses == [FIRST_PAUSE_S] * 2, "what came in between makes patience whole again"


def test_lines_in_brackets_do_not_count() -> None:
    """After another attempt began and something was left out the place is still the stream's own."""
    begun = LIFE.removesuffix(b"end completed\n")
    played = Played(following.follow(signed_in(), "1", "stdout"), OPENED, begun, LOST, OPENED, b"end failed\n")
    shown = b"a\nb\n\n[... attempt 2 begins ...]\nxy\n[... 10 bytes left out ...]\nz"
    assert b"".join(played.items) == shown
    assert played.requests[1].query == {"follow": "1", "framed": "1", "from_attempt": "2", "offset": "13"}


def test_one_attempt_is_followed_alone() -> None:
    """Also after the connection broke."""
    script = [OPENED, b"attempt 1\noutput 0 1\na", LOST, OPENED, b"attempt 1\nend failed\n"]
    played = Played(following.follow(signed_in(), "1", "stderr", attempt=1), *script)
    assert [request.query.get("attempt") for request in played.requests] == ["1", "1"]


def test_a_server_that_stays_away_is_given_up() -> None:
    """After the client's patience, with what was last seen of it."""
    session = signed_in()
    session.patience_s = 1.0
    broken = [OPENED, LOST] * 4
    with pytest.raises(errors.Unreachable, match="reset"):
        Played(following.follow(session, "1", "stdout"), *broken)


def test_a_refusal_is_told() -> None:
    """Such as of a task that is gone meanwhile."""
    with pytest.raises(errors.NotFound):
        Played(following.follow(signed_in(), "1", "stdout"), OPENED, LOST, answer(404))


def test_what_came_until_now_ends_with_silence() -> None:
    """A read that times out means that the command says nothing more for the moment."""
    played = Played(following.so_far(signed_in(), "1", "stdout"), OPENED, b"abc", NoAnswer("timed out"))
    assert played.items == [b"abc"]
    assert played.requests[0].timeout_s == following.SILENCE_S
