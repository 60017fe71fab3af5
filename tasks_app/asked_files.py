"""Reads and checks the files that a task names: its inputs and the patterns of its outputs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from octaskly_wire.file_names import first_double, objection_to_name, objection_to_pattern
from octaskly_wire.limits import MAX_INPUTS, MAX_OUTPUT_PATTERNS

DIGEST_PREFIX: Final = "sha256:"
"""No name may have a colon, so nothing that begins with this is one."""
MAX_SHOWN: Final = 120
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class NotAllowed(Exception):
    """A name, a pattern or a digest that a task may not have; the text says which and why."""


class AskedInput(NamedTuple):
    """An input as a task asks for it: the owner's file of this name, or the content with this digest under it."""

    name: str
    sha256: str | None


def is_digest(text: str) -> bool:
    """Return whether this is a SHA-256 as contents are named: 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def read_input(text: str) -> AskedInput:
    """Return what `name` or `name=sha256:<hex>` asks for."""
    name, has_digest, digest = text.partition(f"={DIGEST_PREFIX}")
    return AskedInput(name, digest if has_digest else None)


def check_inputs(texts: Sequence[str]) -> None:
    """Raise NotAllowed unless these can all be inputs of one task."""
    if not texts:
        return
    if len(texts) > MAX_INPUTS:
        raise NotAllowed(f"{len(texts)} are asked for; at most {MAX_INPUTS} are allowed")
    names = []
    for text in texts:
        name, digest = read_input(text)
        if objection := objection_to_name(name):
            raise NotAllowed(f"{shown(name)} {objection}")
        if digest is not None and not is_digest(digest):
            raise NotAllowed(f"{shown(name)}: after {DIGEST_PREFIX} must come 64 hexadecimal digits in lower case")
        names.append(name)
    _check_doubles(names)
    names_by_folded = {name.casefold(): name for name in names}
    for name in names:
        parts = name.casefold().split("/")
        for count in range(1, len(parts)):
            if (file := names_by_folded.get("/".join(parts[:count]))) is not None:
                raise NotAllowed(f"{shown(name)} needs a folder where {shown(file)} is a file")


def check_outputs(patterns: Sequence[str]) -> None:
    """Raise NotAllowed unless these can all be outputs of one task."""
    if not patterns:
        return
    if len(patterns) > MAX_OUTPUT_PATTERNS:
        raise NotAllowed(f"{len(patterns)} are asked for; at most {MAX_OUTPUT_PATTERNS} are allowed")
    for pattern in patterns:
        if objection := objection_to_pattern(pattern):
            raise NotAllowed(f"{shown(pattern)} {objection}")
    _check_doubles(patterns)


def _check_doubles(names: Sequence[str]) -> None:
    if (double := first_double(names)) is not None:
        raise NotAllowed(f"{shown(double)} is there twice; upper and lower case count as the same")


def shown(name: str) -> str:
    """Return a name as an error shows it: in quotation marks, nothing invisible in it, not too long."""
    return repr(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}...")
