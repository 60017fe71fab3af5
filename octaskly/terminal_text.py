"""What may reach a terminal: text of others is shown, never obeyed. Pure.

A name or command is one line in which every control character is spelled out. Output keeps its colours and line
movements; sequences that could retitle, query or write to the terminal's clipboard are dropped.
"""

from __future__ import annotations

import re
from typing import Final

_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""Control characters, those that turn the direction of writing, and invisible ones; not the two that join letters and emoji."""
_LONGEST_SEQUENCE: Final = 64

_SEQUENCE: Final = re.compile(
    rb"\x1b\[[0-9;:]*m"  # colours: kept
    rb"|\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]"  # other control sequences
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # strings: titles, clipboards, device control
    rb"|\x1b[\x20-\x2f]*[\x30-\x5a\x5c\x60-\x7e]"  # two-byte escapes
    rb"|\xc2[\x80-\x9f]"  # the same as single characters, in UTF-8
    rb"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
)
_COLOUR: Final = re.compile(rb"\x1b\[[0-9;:]*m\Z")
_STRAY: Final = re.compile(rb"\x1b(?!\[[0-9;:]*m)")
_UNFINISHED: Final = re.compile(rb"(?:\x1b(?:\[[\x20-\x3f]*|[\]PX^_][^\x07\x1b]*\x1b?|[\x20-\x2f]*)?|\xc2)\Z")
_STRING_START: Final = re.compile(rb"\x1b[\]PX^_]")


def one_line(text: str) -> str:
    """Return text of somebody else's as one line that only shows itself."""
    return _HARMFUL.sub(_spelled, text)


def json_line(text: str) -> str:
    """Return JSON in which every such character is written as an escape: the same values, and nothing else."""
    return _HARMFUL.sub(_in_json, text)


class Neutraliser:
    """Takes pieces of output as they come, and gives what a terminal may have."""

    def __init__(self) -> None:
        self._held = b""
        self._is_inside_string = False

    def feed(self, data: bytes) -> bytes:
        """Return the next piece; the beginning of a sequence is held until its end is here."""
        data = self._held + data
        self._held = b""
        if self._is_inside_string:
            end = re.search(rb"\x07|\x1b\\", data)
            if end is None:
                # Only what may be half of an end.
                self._held = b"\x1b" if data.endswith(b"\x1b") else b""
                return b""
            data, self._is_inside_string = data[end.end() :], False
        if tail := _UNFINISHED.search(data):
            data, self._held = data[: tail.start()], tail[0]
            if len(self._held) > _LONGEST_SEQUENCE:
                self._is_inside_string = bool(_STRING_START.match(self._held))
                self._held = b""
        # Escapes that fit no rule go, too: only those of colours stay.
        return _STRAY.sub(b"", _SEQUENCE.sub(_kept, data))


def _kept(match: re.Match[bytes]) -> bytes:
    return match[0] if _COLOUR.match(match[0]) else b""


def _in_json(match: re.Match[str]) -> str:
    # In JSON a character beyond U+FFFF is two escapes.
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _spelled(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
