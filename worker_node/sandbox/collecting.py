"""Find and open the outputs that a command left, of which nothing is believed: names, links, kinds, sizes, owners.

Only regular files that are the command's own, under one name, below its folder are ever opened. `tree` opens them
without following a link, and each is looked at again once it is open. Used when no process of the attempt lives;
below strict, others of the same user may still be at work in there, and get nothing out of it either.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from octaskly_wire.file_names import first_double, objection_to_name, objection_to_pattern
from octaskly_wire.limits import MAX_OUTPUT_FILES
from octaskly_wire.messages import OutputFile
from worker_node.sandbox.patterns import Pattern, is_glob
from worker_node.sandbox.tree import Tree

MAX_ENTRIES: Final = 200_000
"""Entries of folders that are looked at for one attempt."""

MAX_DEPTH: Final = 32

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class CannotCollect(Exception):
    """The outputs are more than is taken, or have names that nobody takes; the text says which and how much."""


class _NoOutput(Exception):
    """This is no file to be taken; the text says why."""


@dataclass(frozen=True)
class Rules:
    """What may be collected of one attempt."""

    patterns: Sequence[str]
    inputs: frozenset[str]
    """Names that globs skip."""
    covered: Mapping[str, Path]
    """Inputs that nothing can have replaced, and that lie elsewhere than in the tree."""
    known: frozenset[tuple[int, int]]
    """Device and number of the inputs' files, which the command could move but not change."""
    owner: int | None
    """Whose files besides; None where files have no owner."""
    max_bytes: int
    """Of all together, and so of each."""


@dataclass
class Collected:
    """What was found."""

    files: list[OutputFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What was declared and is not there, each with the reason."""


Take = Callable[[str, int, int], OutputFile]
"""Gets name, descriptor and size of a file, and copies it."""


def collect(tree: Tree, rules: Rules, take: Take) -> Collected:
    """Take the files that the patterns name; raise CannotCollect when they are too much."""
    for pattern in rules.patterns:
        if objection := objection_to_pattern(pattern):
            raise CannotCollect(f"output {pattern!r}: the name {objection}")
    collected = Collected()
    sizes: dict[str, int] = {}
    globs: list[str] = []
    for pattern in rules.patterns:
        if is_glob(pattern):
            globs.append(pattern)
        elif pattern in rules.covered:
            sizes[pattern] = rules.covered[pattern].stat().st_size
        else:
            try:
                sizes[pattern] = _size_of_output(tree, pattern, rules)
            except _NoOutput as error:
                collected.missing.append(f"{pattern} {error}")
    matched = _Search(tree, globs, rules.inputs).run() if globs else {}
    for pattern in globs:
        why = "nothing matches"
        has_output = False
        for name in matched[pattern]:
            try:
                if name not in sizes:
                    sizes[name] = _size_of_output(tree, name, rules)
                has_output = True
            except _NoOutput as error:
                why = f"{name!r} {error}"
        if not has_output:
            collected.missing.append(f"{pattern} ({why})")
    _check(sizes, rules.max_bytes)
    for name, size_bytes in sizes.items():
        try:
            if name in rules.covered:
                with rules.covered[name].open("rb") as content:
                    collected.files.append(take(name, content.fileno(), size_bytes))
            else:
                collected.files.append(_take(tree, name, size_bytes, rules, take))
        except _NoOutput as error:
            collected.missing.append(f"{name} {error}")
    return collected


def _check(sizes: dict[str, int], room_bytes: int) -> None:
    """Raise CannotCollect when names or numbers are beyond what is taken."""
    if len(sizes) > MAX_OUTPUT_FILES:
        raise CannotCollect(f"the outputs are {len(sizes)} files, {MAX_OUTPUT_FILES} are allowed")
    for name, size_bytes in sizes.items():
        if objection := objection_to_name(name):
            raise CannotCollect(f"output {name!r}: the name {objection}")
        if size_bytes > room_bytes:
            raise CannotCollect(
                f"output {name!r} has {size_bytes} bytes, {room_bytes} are left of what an attempt's outputs may have"
            )
        room_bytes -= size_bytes
    if double := first_double(sizes):
        raise CannotCollect(f"output {double!r}: the name of another output differs only in upper and lower case")


def _size_of_output(tree: Tree, name: str, rules: Rules) -> int:
    """Return the size of a file that may be taken; raise _NoOutput when it may not."""
    try:
        status = tree.status(name)
    except OSError as error:
        raise _NoOutput(_in_words(error)) from error
    return _size_if_fit(status, rules)


def _take(tree: Tree, name: str, size_bytes: int, rules: Rules, take: Take) -> OutputFile:
    """Open and take a file; it is judged anew by what was opened."""
    try:
        fd = tree.open(name)
    except OSError as error:
        raise _NoOutput(_in_words(error)) from error
    try:
        # It may be another one by now, and shall not be more than was counted.
        return take(name, fd, min(size_bytes, _size_if_fit(os.fstat(fd), rules)))
    finally:
        os.close(fd)


def _size_if_fit(status: os.stat_result, rules: Rules) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "a device")
        raise _NoOutput(f"is {kind}, not a regular file")
    if (status.st_dev, status.st_ino) in rules.known:
        return status.st_size
    if rules.owner is not None and status.st_uid != rules.owner:
        raise _NoOutput("belongs to another user")
    if status.st_nlink != 1:
        raise _NoOutput("has further names (hard links)")
    return status.st_size


def _in_words(error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return "does not exist"
    if error.errno in {errno.ELOOP, errno.EXDEV}:
        return "cannot be reached without following a link"
    return f"cannot be read: {error.strerror or error}"


class _Search:
    """One walk through a tree for all globs, which enters only folders in which one of them can match."""

    def __init__(self, tree: Tree, globs: Sequence[str], skipped: frozenset[str]) -> None:
        self._tree = tree
        self._patterns = {glob: Pattern(glob) for glob in globs}
        self._skipped = skipped
        self._found: dict[str, list[str]] = {glob: [] for glob in globs}
        self._names: set[str] = set()
        self._entries = 0

    def run(self) -> dict[str, list[str]]:
        """Return the names that each glob matches, in order; raise CannotCollect when there is no end of it."""
        waiting = [("", 0, {glob: pattern.start for glob, pattern in self._patterns.items()})]
        while waiting:
            folder, depth, places = waiting.pop()
            for name, is_folder in self._entries_of(folder, depth):
                inside = f"{folder}/{name}" if folder else name
                further = {
                    glob: after for glob, place in places.items() if (after := self._patterns[glob].after(place, name))
                }
                if is_folder:
                    going_on = {glob: after for glob, after in further.items() if self._patterns[glob].goes_on(after)}
                    if going_on:
                        waiting.append((inside, depth + 1, going_on))
                elif inside not in self._skipped:
                    self._note(inside, [glob for glob, after in further.items() if self._patterns[glob].is_end(after)])
        return {glob: sorted(names) for glob, names in self._found.items()}

    def _note(self, name: str, globs: list[str]) -> None:
        for glob in globs:
            self._found[glob].append(name)
            self._names.add(name)
        if len(self._names) > MAX_OUTPUT_FILES:
            raise CannotCollect(f"more than {MAX_OUTPUT_FILES} files match the outputs {', '.join(self._found)}")

    def _entries_of(self, folder: str, depth: int) -> list[tuple[str, bool]]:
        if depth > MAX_DEPTH:
            raise CannotCollect(f"folders lie more than {MAX_DEPTH} deep, as {folder[:100]!r}...")
        try:
            entries = self._tree.entries(folder, MAX_ENTRIES - self._entries)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise CannotCollect(f"the path of a folder is too long, as {folder[:100]!r}...") from error
            return []  # the command closed it to its own user, or it is gone
        self._entries += len(entries)
        if self._entries >= MAX_ENTRIES:
            raise CannotCollect(f"the working folder has {MAX_ENTRIES} files and folders or more to look through")
        return entries
