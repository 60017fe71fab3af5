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

_DIGITS: Final = "0123456789\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}"
_RESERVED_ON_WINDOWS: Final = frozenset(
    [
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{digit}" for port in ("com", "lpt") for digit in _DIGITS),
    ]
)
_REFUSED: Final = {"\\": "a backslash", ":": "a colon", "<": "<", ">": ">", '"': "a quotation mark", "|": "|"}
_LOOK_LIKE: Final = dict.fromkeys("\u2044\u2215\u29f8\uff0f", "/") | dict.fromkeys(
    "\u2216\u29f5\u29f9\ufe68\uff3c", "\\"
)
"""Some systems even take the last of each for the character itself."""
_JOINERS: Final = frozenset("\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
"""Invisible, but Persian is not written without the one, nor many an emoji without the other."""
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that nobody sees."""
_NONCHARACTERS: Final = range(0xFDD0, 0xFDF0)
_LAST_OF_PLANE: Final = 0xFFFE


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
    if unicodedata.normalize("NFKC", name)[1:2] == ":" != name[1:2]:
        return "must not begin like the name of a drive"
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
    for place, character in enumerate(part):
        if character in _REFUSED:
            return f"must not contain {_REFUSED[character]}"
        if not allows_globs and character in GLOB_CHARACTERS:
            return f"must not contain {character}"
        if not (character.isascii() and character.isalnum()) and (objection := _objection_to_sign(part, place)):
            return objection
    if part[-1] in ". ":
        return "must not have a part that ends in a dot or a space"
    if part[0] == " ":
        return "must not have a part that begins with a space"
    if unicodedata.normalize("NFKC", part) in {".", ".."}:
        return "must not have a part that looks like '.' or '..'"
    # Windows does not see blanks there.
    if part.split(".", 1)[0].rstrip(" ").casefold() in _RESERVED_ON_WINDOWS:
        return f"must not have a part {part!r}, which Windows reserves"
    return None


def _objection_to_sign(part: str, place: int) -> str | None:
    """Return why a character that is no letter or digit may not be there."""
    character = part[place]
    code = f"U+{ord(character):04X}"
    if character in _LOOK_LIKE:
        return f"must not contain {code}, which looks like {_LOOK_LIKE[character]}"
    category = unicodedata.category(character)
    if category == "Cc":
        return f"must not contain the control character {code}"
    if character in _JOINERS and not (part[:place][-1:].isascii() or part[place + 1 : place + 2].isascii()):
        return None
    if category in {"Cf", "Cs", "Zl", "Zp"} or _is_unseen(character):
        return f"must not contain the invisible character {code}"
    return None


def _is_unseen(character: str) -> bool:
    number = ord(character)
    return character in _BLANKS or number in _NONCHARACTERS or number & _LAST_OF_PLANE == _LAST_OF_PLANE
