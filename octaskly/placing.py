"""Puts files that came home into a folder, and never anywhere else.

The names come from a server, so they are checked again here, and no link on the way is followed: where the system
has them, each folder is opened from the one before. A file is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from octaskly.errors import BadFile
from octaskly_wire.file_names import objection_to_name

_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def placed(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """Give a file to write into; at the end of the block, unless it failed, it has its name in the folder."""
    if objection := objection_to_name(name):
        raise BadFile(f"The server names an output {name!r}, which {objection}; it is not written")
    *parents, last = name.split("/")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _opened(folder, parents, name) as place:
            _refuse_other_kinds(place, last, name)
            with place.replaced(last) as file:
                yield file
    except OSError as error:
        raise BadFile(f"Cannot write {folder / name}: {error.strerror or error}") from error


class _Place:
    """A folder, by its descriptor where the system can, else by its path."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor

    def at(self, name: str) -> str:
        """Return how system calls name a thing in here."""
        return name if self.descriptor is not None else str(self.path / name)

    @contextlib.contextmanager
    def replaced(self, name: str) -> Iterator[IO[bytes]]:
        """Give a new file that takes this name at the end."""
        temporary = f".octaskly-{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(self.at(temporary), _NEW, 0o666, dir_fd=self.descriptor), "wb") as file:
                yield file
            os.replace(self.at(temporary), self.at(name), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self.at(temporary), dir_fd=self.descriptor)
            raise


@contextlib.contextmanager
def _opened(folder: Path, parents: list[str], name: str) -> Iterator[_Place]:
    if not _BY_DESCRIPTOR:
        yield _Place(_walked(folder, parents, name), None)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=descriptor)
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                # ENOTDIR, or ELOOP for a link.
                raise _in_the_way(part, name) from error
            os.close(descriptor)
            descriptor = below
        yield _Place(folder.joinpath(*parents), descriptor)
    finally:
        os.close(descriptor)


def _walked(folder: Path, parents: list[str], name: str) -> Path:
    path = folder
    for part in parents:
        path /= part
        path.mkdir(exist_ok=True)
        if path.is_symlink():
            raise _in_the_way(part, name)
    return path


def _refuse_other_kinds(place: _Place, last: str, name: str) -> None:
    try:
        mode = os.stat(place.at(last), dir_fd=place.descriptor, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise BadFile(
            f"{name!r} is a {'link' if stat.S_ISLNK(mode) else 'folder'} here; the output is not written over it"
        )


def _in_the_way(part: str, name: str) -> BadFile:
    return BadFile(f"{part!r} on the way to {name!r} is a link or no folder; the output is not written through it")
