"""GNU Parallel's replacement strings: how a template and its values become a command. Pure.

`{}` the value, `{.}` without its extension, `{/}` its last part, `{//}` its folder, `{/.}` its last part without
extension, `{#}` the number from 1; `{2}`, `{2.}`, `{2/}`, `{2//}`, `{2/.}` the same of the second list's value.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

_FIELD: Final = re.compile(r"\{(?P<place>\d*)(?P<part>\.|/\.|//|/)?\}|\{#\}")
_EXTENSION: Final = re.compile(r"\.[^/.]+\Z")


def with_field(template: str) -> str:
    """Return the template, with `{}` at its end when nothing in it is replaced."""
    return template if _FIELD.search(template) else f"{template} {{}}"


def highest_place(template: str) -> int:
    """Return the highest number of a list that the template names, 0 for none."""
    return max((int(match["place"]) for match in _FIELD.finditer(template) if match["place"]), default=0)


def filled(template: str, values: Sequence[str], number: int, quote: Callable[[str], str] = shlex.quote) -> str:
    """Return the template with its fields replaced, each value quoted; a place that there is not stays as it is."""

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "{#}":
            return str(number)
        part = match["part"] or ""
        if not match["place"]:
            return " ".join(quote(_part(value, part)) for value in values)
        place = int(match["place"])
        return quote(_part(values[place - 1], part)) if 1 <= place <= len(values) else match[0]

    return _FIELD.sub(replaced, template)


def filled_plainly(template: str, values: Sequence[str], number: int) -> str:
    """Return a name or path: the same without quotes."""
    return filled(template, values, number, quote=str)


def combinations(lists: Sequence[Iterable[str]]) -> Iterator[tuple[str, ...]]:
    """Yield each combination of the lists' values, the last list's changing fastest."""
    if len(lists) == 1:
        yield from ((value,) for value in lists[0])
    else:
        yield from itertools.product(*lists)


def split_lists(words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the words before the first `:::`, and the list behind each."""
    template: list[str] = []
    lists: list[list[str]] = []
    for word in words:
        if word == ":::":
            lists.append([])
        elif lists:
            lists[-1].append(word)
        else:
            template.append(word)
    return template, lists


def _part(value: str, part: str) -> str:
    if part == ".":
        return _EXTENSION.sub("", value)
    if part == "/":
        return value.rpartition("/")[2]
    if part == "/.":
        return _EXTENSION.sub("", value.rpartition("/")[2])
    if part == "//":
        folder = value.rstrip("/").rpartition("/")[0].rstrip("/")
        return folder or ("/" if value.startswith("/") else ".")
    return value
