"""Events become frames and text."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from octaskly_site.live.frames import FramedBytes, JsonFrames, PlainText, refusal_frame
from tasks_app.live.follow import BytesLeftOut, Follower, FollowEvent, OutputCame, StatusTold, TaskEnded
from tasks_app.live.looks import Ending

EURO = "€".encode()
REPLACED = "\N{REPLACEMENT CHARACTER}"


def frames_of(*events: FollowEvent, is_base64: bool = False) -> list[dict]:
    """Return the decoded frames of the events."""
    frames = JsonFrames(is_base64=is_base64)
    return [json.loads(frame) for event in events for frame in frames.of(event)]


def test_events_are_told_in_order():
    """A whole life: queued, running, output, a gap, the end."""
    assert frames_of(
        StatusTold("queued", 0),
        StatusTold("running", 1),
        OutputCame("stdout", 0, b"hello\n"),
        OutputCame("stderr", 0, b"oops\0"),
        BytesLeftOut("stdout", 6, 94),
        OutputCame("stdout", 100, b"bye"),
        TaskEnded(Ending("failed", 3, "exit_code")),
    ) == [
        {"type": "status", "status": "queued", "attempt": 0},
        {"type": "status", "status": "running", "attempt": 1},
        {"type": "output", "stream": "stdout", "offset": 0, "data": "hello\n"},
        {"type": "output", "stream": "stderr", "offset": 0, "data": "oops\0"},
        {"type": "gap", "stream": "stdout", "bytes": 94},
        {"type": "output", "stream": "stdout", "offset": 100, "data": "bye"},
        {"type": "end", "status": "failed", "exit_code": 3, "failure_reason": "exit_code"},
    ]


@pytest.mark.parametrize("cut", [1, 2])
def test_characters_are_not_torn(cut):
    """The beginning of a character waits for the rest of it, and the offset is that of its first byte."""
    shown = frames_of(OutputCame("stdout", 0, b"1" + EURO[:cut]), OutputCame("stdout", 1 + cut, EURO[cut:] + b"2"))
    assert [(frame["offset"], frame["data"]) for frame in shown] == [(0, "1"), (1, "€2")]


def test_streams_do_not_mix():
    """Each stream has half characters of its own."""
    shown = frames_of(
        OutputCame("stdout", 0, EURO[:1]), OutputCame("stderr", 0, b"x"), OutputCame("stdout", 1, EURO[1:])
    )
    assert [(frame["stream"], frame["data"]) for frame in shown] == [("stderr", "x"), ("stdout", "€")]


@pytest.mark.parametrize(
    "last", [BytesLeftOut("stdout", 2, 5), StatusTold("queued", 2), TaskEnded(Ending("lost", None, None))]
)
def test_half_a_character_is_told_when_no_more_comes(last):
    """Before a gap, another attempt and the end."""
    shown = frames_of(OutputCame("stdout", 0, b"1" + EURO[:1]), last)
    assert [frame.get("data") for frame in shown] == ["1", REPLACED, None]
    assert shown[1]["offset"] == 1


def test_a_status_tears_no_character():
    """A command may write before it is known to run."""
    shown = frames_of(
        StatusTold("queued", 1),
        OutputCame("stdout", 0, EURO[:1]),
        StatusTold("running", 1),
        OutputCame("stdout", 1, EURO[1:]),
    )
    assert [frame.get("data") for frame in shown] == [None, None, "€"]


def test_bytes_that_are_no_text_are_replaced():
    """A frame is text whatever the command wrote."""
    assert frames_of(OutputCame("stdout", 0, b"caf\xe9\n"))[0]["data"] == f"caf{REPLACED}\n"


def test_base64_is_exact():
    """With base64 every byte arrives, torn characters and all."""
    shown = frames_of(OutputCame("stdout", 7, EURO[:1] + b"\xff"), is_base64=True)
    assert (shown[0]["offset"], b64decode(shown[0]["data"])) == (7, EURO[:1] + b"\xff")


def test_plain_text_marks_what_is_no_output():
    """Output goes through as it is; a gap and another attempt are lines in brackets."""
    text = PlainText()
    shown = [
        text.of(event)
        for event in (
            StatusTold("queued", 0),
            StatusTold("running", 1),
            OutputCame("stdout", 0, EURO[:2]),
            BytesLeftOut("stdout", 2, 40),
            StatusTold("queued", 1),
            StatusTold("queued", 2),
            StatusTold("running", 2),
            TaskEnded(Ending("completed", 0, None)),
        )
    ]
    assert shown == [
        b"", b"", EURO[:2], b"\n[... 40 bytes left out ...]\n", b"", b"\n[... attempt 2 begins ...]\n", b"", b"",
    ]  # fmt: skip


def test_a_refusal_says_why():
    """Before a connection is closed for a reason, a frame tells it."""
    assert json.loads(refusal_frame(404, "Not found.")) == {"type": "refused", "status": 404, "detail": "Not found."}


def test_programs_get_each_piece_with_its_place():
    """A line before each, and the attempt whenever it is another, also where nobody told of it."""
    follower = Follower(None, "task", ["stdout"], attempt=1)
    frames = FramedBytes(follower)
    first = b"".join(
        map(frames.of, [StatusTold("running", 1), OutputCame("stdout", 5, b"a\nb"), BytesLeftOut("stdout", 8, 2)])
    )
    assert first == b"attempt 1\noutput 5 3\na\nbgap 8 2\n"
    follower._number = 2
    last = b"".join(map(frames.of, [OutputCame("stdout", 0, b"c"), TaskEnded(Ending("completed", 0, None))]))
    assert last == b"attempt 2\noutput 0 1\ncend completed\n"


def test_programs_are_told_nothing_before_the_first_attempt():
    """A task that waits has no attempt whose output it could be."""
    frames = FramedBytes(Follower(None, "task", ["stdout"]))
    assert [frames.of(StatusTold("queued", 0)), frames.of(TaskEnded(Ending("cancelled", None, "cancelled")))] == [
        b"",
        b"end cancelled\n",
    ]
