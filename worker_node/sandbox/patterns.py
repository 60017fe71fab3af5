"""Globs of outputs: `*`, `?` and `[...]` within a part of a name, `**` for any number of folders. Pure.

As in a shell, a part that does not begin with a dot matches no name that does. A pattern is followed part by part
while a tree is walked, so that a folder in which it cannot match is never entered.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Final

from octaskly_wire.file_names import GLOB_CHARACTERS

ANY_FOLDERS: Final = "**"

Place = frozenset[int]
"""How many parts may have been matched so far; `**` leaves it open."""


def is_glob(pattern: str) -> bool:
    """Return whether this is more than a plain name."""
    return any(character in GLOB_CHARACTERS for character in pattern)


class Pattern:
    """One glob."""

    def __init__(self, text: str) -> None:
        """Read it. A `**` at the end stands for all files below."""
        parts = text.split("/")
        if parts[-1] == ANY_FOLDERS:
            parts.append("*")
        self._parts = [None if part == ANY_FOLDERS else _Part(part) for part in parts]
        self.start: Final = self._with_skips({0})

    def after(self, place: Place, name: str) -> Place:
        """Return the place behind one more part of a name, empty when the pattern cannot match any more."""
        reached: set[int] = set()
        for index in place:
            if index == len(self._parts):
                continue
            part = self._parts[index]
            if part is None:
                if not name.startswith("."):
                    reached.add(index)
            elif part.matches(name):
                reached.add(index + 1)
        return self._with_skips(reached)

    def goes_on(self, place: Place) -> bool:
        """Return whether the pattern can match something further inside."""
        return any(index < len(self._parts) for index in place)

    def is_end(self, place: Place) -> bool:
        """Return whether the pattern matches what was followed so far."""
        return len(self._parts) in place

    def _with_skips(self, reached: set[int]) -> Place:
        for index in sorted(reached):
            following = index
            while following < len(self._parts) and self._parts[following] is None:
                following += 1
                reached.add(following)
        return frozenset(reached)


class _Part:
    def __init__(self, text: str) -> None:
        self._takes_hidden = text.startswith(".")
        self._expression = re.compile(fnmatch.translate(text))

    def matches(self, name: str) -> bool:
        if name.startswith(".") and not self._takes_hidden:
            return False
        return self._expression.match(name) is not None
