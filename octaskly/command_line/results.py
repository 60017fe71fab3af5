"""`--results`: each task's output in files, in the folders that GNU Parallel would make."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from octaskly.errors import BadFile
from octaskly.outcomes import Outcome

LONGEST_PART: Final = 200
_SPELLED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\0": "\\0", "/": "\\_"})


def keep(folder: Path, number: int, values: tuple[str, ...], outcome: Outcome) -> None:
    """Write stdout, stderr and the number to a folder named for the values."""
    place = folder.joinpath(*(part for index, value in enumerate(values, 1) for part in (str(index), part_for(value))))
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "stdout").write_bytes(outcome.stdout)
        (place / "stderr").write_bytes(outcome.stderr)
        (place / "seq").write_text(str(number))
    except OSError as error:
        raise BadFile(f"Cannot write {place}: {error.strerror}") from error


def part_for(value: str) -> str:
    """Return a value as one part of a path; a long one is cut, with its digest to tell it from others."""
    part = value.translate(_SPELLED)
    if part in {"", ".", ".."}:
        part = f"\\{part}"
    raw = part.encode("utf-8", "surrogateescape")
    if len(raw) <= LONGEST_PART:
        return part
    return raw[:LONGEST_PART].decode("utf-8", "ignore") + "-" + hashlib.sha256(raw).hexdigest()[:16]
