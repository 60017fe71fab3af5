"""Which names a task's files may have, on every system that a worker may run on. Pure.

A name is relative, with `/` between its parts, in Unicode's composed form. Whatever could lead out of a folder, mean
something else on another system, or deceive a reader is refused. A user's name is never a path on the dispatcher.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

MAX_PART_BYTES: Final = 255
MAX_NAME_BYTES: Final = 1024
MAX_PARTS: Final = 16
GLOB_CHARACTERS: Final = frozenset("*?[]")

_RESERVED_ON_WINDOWS: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{digit}" for digit in "0123456789"), *(f"lpt{digit}" for digit in "0123456789")]
)
_REFUSED: Final = {"\\": "a backslash", ":": "a colon", "<": "<", ">": ">", '"': "a quotation mark", "|": "|"}
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def objection_to_name(name: str) -> str | None:
    """Return in plain words why a file may not have this name, None when it may."""
    return _objection(name, allows_globs=False)


def objection_to_pattern(pattern: str) -> str | None:
    """Return why this is no name or glob of outputs, None when it is. `**` stands for any folders."""
    return _objection(pattern, allows_globs=True)


def first_double(names: Iterable[str]) -> str | None:
    """Return the first name that is there already, upper and lower case counting as the same; None when all differ."""
    seen = set()
    for name in names:
        folded = name.casefold()
        if folded in seen:
            return name
        seen.add(folded)
    return None


def _objection(name: str, *, allows_globs: bool) -> str | None:
    if not name:
        return "must not be empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > MAX_NAME_BYTES:
        return f"must have at most {MAX_NAME_BYTES} bytes"
    if unicodedata.normalize("NFC", name) != name:
        return "must be in Unicode's composed form (NFC)"
    parts = name.split("/")
    if name.startswith("/"):
        return "must be relative"
    if len(parts) > MAX_PARTS:
        return f"must have at most {MAX_PARTS} parts"
    for part in parts:
        if objection := _objection_to_part(part, allows_globs=allows_globs):
            return objection
    return None


def _objection_to_part(part: str, *, allows_globs: bool) -> str | None:
    if not part:
        return "must not have an empty part"
    if part in {".", ".."}:
        return f"must not have a part {part!r}"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"must have at most {MAX_PART_BYTES} bytes in a part"
    for character in part:
        if character in _REFUSED:
            return f"must not contain {_REFUSED[character]}"
        if character in _BIDI or unicodedata.category(character) in {"Cc", "Cs"}:
            return f"must not contain the control character U+{ord(character):04X}"
        if not allows_globs and character in GLOB_CHARACTERS:
            return f"must not contain {character}"
    if part[-1] in ". ":
        return "must not have a part that ends in a dot or a space"
    if part[0] == " ":
        return "must not have a part that begins with a space"
    if part.split(".", 1)[0].casefold() in _RESERVED_ON_WINDOWS:
        return f"must not have a part {part!r}, which Windows reserves"
    return None
