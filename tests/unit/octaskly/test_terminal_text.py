"""What a terminal gets of other people's text."""

from __future__ import annotations

import json

import msgspec
import pytest

from octaskly.command_line.show import widths_of
from octaskly.terminal_text import Neutraliser, json_line, one_line
from tests.support.hostile_texts import TEXTS

HOSTILE = [
    (b"\x1b]0;title\x07after", b"after"),
    (b"\x1b]52;c;aGVsbG8=\x1b\\after", b"after"),
    (b"\x1bP$q\x1b\\after", b"after"),
    (b"\x1b[2J\x1b[Hafter", b"after"),
    (b"\x1b[?1049hafter", b"after"),
    (b"\x1bcafter", b"after"),
    (b"\x1b(0after", b"after"),
    (b"\xc2\x9b2Jafter", b"2Jafter"),
    (b"\x07\x0e\x7fafter", b"after"),
]


@pytest.mark.parametrize(("data", "expected"), HOSTILE)
def test_sequences_that_steer_are_dropped(data, expected) -> None:
    """Titles, clipboards, queries, screens and bells do not reach the terminal."""
    assert Neutraliser().feed(data) == expected


@pytest.mark.parametrize(
    "data",
    [b"\x1b[1;31mred\x1b[0m", b"\x1b[38:2:1:2:3mx", b"10%\r20%\tend\b\n", "ä€😀\u00a0".encode(), b"\xff\xfe raw"],
)
def test_colours_lines_and_text_stay(data) -> None:
    """Colours, progress that rewrites its line, and every letter come through."""
    assert Neutraliser().feed(data) == data


@pytest.mark.parametrize(("data", "expected"), [*HOSTILE, (b"a\x1b[31mb\xc3\xa4", b"a\x1b[31mb\xc3\xa4")])
def test_pieces_do_not_matter(data, expected) -> None:
    """A sequence that comes byte by byte is seen as one."""
    neutraliser = Neutraliser()
    assert b"".join(neutraliser.feed(data[place : place + 1]) for place in range(len(data))) == expected


def test_an_endless_string_is_swallowed_without_being_kept() -> None:
    """A title of a megabyte is dropped to its end, and memory stays small."""
    neutraliser = Neutraliser()
    assert neutraliser.feed(b"\x1b]0;") == b""
    assert [neutraliser.feed(b"x" * 100_000) for _ in range(10)] == [b""] * 10
    assert len(neutraliser._held) < 100
    assert neutraliser.feed(b"y\x1b\\shown") == b"shown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name", "plain name"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("ünï 😀", "ünï 😀"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_names_are_one_line_and_show_what_they_hold(text, expected) -> None:
    """Control characters are spelled out, never obeyed."""
    assert one_line(text) == expected


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_no_text_of_others_steers_a_terminal(text) -> None:
    """Not as a name, not in JSON, not as output without --raw; JSON keeps its value."""
    assert one_line(text).isprintable()
    document = json_line(msgspec.json.encode({"name": text}).decode())
    assert document.isprintable()
    assert json.loads(document) == {"name": text}
    shown = Neutraliser().feed(text.encode()).decode(errors="replace")
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\x9d", "\x90", "\x7f", "\x00"}


@pytest.mark.parametrize("room", [80, 136, 200])
def test_one_long_text_takes_no_other_column_away(room):
    """Short columns stay whole in a table; only what is long is cut, the last column first."""
    columns, longest = ("ID", "STATUS", "NAME", "CREATED", "COMMAND"), (36, 9, 300, 24, 60_000)
    widths = widths_of(columns, longest, room)
    assert [most for _, most in widths[:2]] == [36, 9]
    assert widths[2][1] >= 16
    assert all(least <= most for least, most in widths)
    assert sum(most for _, most in widths) + 12 <= max(room, 36 + 9 + 16 + 16 + 7 + 12)


def test_columns_are_as_wide_as_their_texts_where_there_is_room():
    """Nothing is cut without need."""
    assert [most for _, most in widths_of(("NAME", "COMMAND"), (20, 30), 80)] == [20, 30]
