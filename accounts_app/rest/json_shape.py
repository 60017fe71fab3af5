"""Looks at the shape of a JSON text before it is decoded: how deep it goes, and that no object has a key twice. Pure.

Decoding first would be too late: a megabyte can hold a hundred thousand levels, and of two equal keys the last one wins,
so that whoever checked the first one has checked nothing. Nothing is built of what is read here, and none of it is walked
in Python but an object's keys.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Levels of lists and objects within each other."""
MAX_PARTS: Final = 600_000
"""Keys, commas and brackets of one text: what is decoded takes many times the memory of its text."""
MAX_KEYS: Final = 32_768
"""Of one object."""
_MAX_SHOWN: Final = 64

_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class BadShape(ValueError):
    """The text is nested too deeply, has too many parts, an object in it has a key twice, or it is no JSON; it says which."""


def check_shape(text: bytes) -> None:
    """Raise BadShape for what no request may have."""
    structure = _without_texts(text)
    if sum(map(structure.count, (b":", b",", b"[", b"{", b"]", b"}"))) >= MAX_PARTS:
        raise _too_many_parts()
    try:
        _reader.decode(text.decode(errors="surrogateescape"))
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise BadShape(f"is not JSON: {error}") from None
    levels = structure.translate(_AS_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        levels = levels.replace(b"[]", b"")
    if levels:
        raise _too_deep()


def _without_texts(text: bytes) -> bytes:
    """Return what is outside of the quotes."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if text.count(b'"') > 2 * MAX_PARTS:  # Behind each text comes another part.
        raise _too_many_parts()
    return b"".join(text.split(b'"')[::2])


def _check_keys(members: list[tuple[str, Any]]) -> None:
    """Raise BadShape for an object with these members."""
    if len(dict(members)) == len(members) <= MAX_KEYS:
        return
    if len(members) > MAX_KEYS:
        raise BadShape(f"has an object with more than {MAX_KEYS} keys")
    keys = set[str]()
    for key, _ in members:
        if key in keys:
            shown = key.encode(errors="surrogateescape").decode(errors="replace")[:_MAX_SHOWN]
            raise BadShape(f"has the key {shown!r} twice in one object")
        keys.add(key)


# Numbers are not read, for they may be long. What a text may hold is the decoder's care.
_reader: Final = json.JSONDecoder(object_pairs_hook=_check_keys, parse_int=len, parse_float=len, strict=False)


def _too_deep() -> BadShape:
    return BadShape(f"is nested more than {MAX_DEPTH} levels deep")


def _too_many_parts() -> BadShape:
    return BadShape(f"has more than {MAX_PARTS} keys and values")
