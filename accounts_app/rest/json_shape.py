"""Looks at the shape of a JSON text before it is decoded: how deep it goes, and that no object has a key twice. Pure.

Decoding first would be too late: a megabyte can hold a hundred thousand levels, and of two equal keys the last one wins,
so that whoever checked the first one has checked nothing. What is no JSON at all is left to the decoder.
"""

from __future__ import annotations

import json
import re
from typing import Final

MAX_DEPTH: Final = 32
"""Levels of lists and objects within each other."""
MAX_PARTS: Final = 600_000
"""Keys, commas and brackets of one text: what is decoded takes many times the memory of its text."""
MAX_KEYS: Final = 32_768
"""Of one object."""
_MAX_SHOWN: Final = 64

_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NEXT: Final = re.compile(
    rb'[^"{}\[\],]*+(?:' + _TEXT + rb'(?!\s*+:)[^"{}\[\],]*+)*+'  # values: passed over
    rb"(?:(" + _TEXT + rb")\s*+:|[{}\[\],])",  # a key, a comma or a bracket
    re.DOTALL,
)


class BadShape(ValueError):
    """The text is nested too deeply, has too many parts, or an object in it has a key twice; the text says which."""


def check_shape(text: bytes) -> None:
    """Raise BadShape for what no request may have."""
    keys: set[bytes] = set()
    outer: list[set[bytes]] = []
    place = 0
    for _ in range(MAX_PARTS):
        if (match := _NEXT.match(text, place)) is None:
            return
        place = match.end()
        if match.lastindex:
            key = match[1]
            if b"\\" in key:
                key = _without_escapes(key)
            if key in keys:
                shown = key[1:-1].decode(errors="replace")[:_MAX_SHOWN]
                raise BadShape(f"has the key {shown!r} twice in one object")
            keys.add(key)
            if len(keys) > MAX_KEYS:
                raise BadShape(f"has an object with more than {MAX_KEYS} keys")
        elif text[place - 1] in b"[{":
            if len(outer) == MAX_DEPTH:
                raise BadShape(f"is nested more than {MAX_DEPTH} levels deep")
            outer.append(keys)
            keys = set()
        elif outer and text[place - 1] in b"]}":
            keys = outer.pop()
    raise BadShape(f"has more than {MAX_PARTS} keys and values")


def _without_escapes(key: bytes) -> bytes:
    try:
        return json.dumps(json.loads(key), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except ValueError:
        return key
