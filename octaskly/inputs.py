"""Local files as a task's inputs: which names they get, and what they hold."""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from octaskly.errors import BadFile
from octaskly_wire.file_names import first_double, objection_to_name
from octaskly_wire.limits import MAX_INPUTS

TRUSTED_S: Final = 600.0
"""An upload stays for a day at least unless somebody chose otherwise."""


class LocalFile(msgspec.Struct, frozen=True):
    """A file here that is to be a file there."""

    name: str
    path: Path


class Content(msgspec.Struct, frozen=True):
    """What a file held when it was read."""

    sha256: str
    size: int


def local_files(paths: Iterable[str | os.PathLike[str]], base: Path) -> list[LocalFile]:
    """Return the files that paths name, folders walked; raises BadFile.

    A file below `base` keeps its way from there, any other goes by its last part.
    """
    found = [file for path in paths for file in _below(Path(path), base)]
    for file in found:
        if objection := objection_to_name(file.name):
            raise BadFile(f"{file.path} cannot be an input: its name {file.name!r} {objection}")
    if double := first_double(file.name for file in found):
        raise BadFile(f"Two inputs would have the name {double!r} (upper and lower case count as the same)")
    if len(found) > MAX_INPUTS:
        raise BadFile(f"{len(found)} input files; a task may have {MAX_INPUTS}. Pack them into an archive")
    return found


class Sent(msgspec.Struct, frozen=True):
    """A local file whose content the server has, as a task names it."""

    reference: str
    size: int


class Contents:
    """Digests of local files; one that did not change is read once. And which of them the server has."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], Content] = {}
        self._stored_at: dict[str, float] = {}

    def is_stored(self, content: Content) -> bool:
        """Return whether the server was seen to have it a short while ago."""
        return time.monotonic() - self._stored_at.get(content.sha256, float("-inf")) < TRUSTED_S

    def note_stored(self, content: Content) -> None:
        """Remember that the server has it."""
        self._stored_at[content.sha256] = time.monotonic()

    def of(self, path: Path) -> Content:
        """Return what a file holds; raises BadFile."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
                if key not in self._known:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    self._known[key] = Content(digest, file.tell())
                return self._known[key]
        except OSError as error:
            raise BadFile(f"Cannot read {path}: {error.strerror}") from error


def size_of(path: Path) -> int:
    """Return how long a file is; raises BadFile."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}") from error


def reference(name: str, content: Content) -> str:
    """Return how a task names an input with this content."""
    return f"{name}=sha256:{content.sha256}"


def _below(path: Path, base: Path) -> Iterator[LocalFile]:
    whole = Path(os.path.abspath(base / path))  # noqa: PTH100 - a link keeps its own name
    root = base if whole.is_relative_to(base) and whole != base else whole.parent
    if whole.is_dir():
        files = sorted(_walked(whole))
        if not files:
            raise BadFile(f"{path} is a folder without files")
        if whole == base:
            root = base
    elif whole.is_file():
        files = [whole]
    else:
        raise BadFile(
            f"Cannot read {path}: " + ("it is no ordinary file" if whole.exists() else "there is no such file")
        )
    for file in files:
        yield LocalFile(unicodedata.normalize("NFC", file.relative_to(root).as_posix()), file)


def _walked(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise BadFile(f"Cannot read {error.filename}: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(parent, name)
            if path.is_file():
                yield path
