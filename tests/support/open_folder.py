"""A place where commands of any user may leave marks: those of a worker started as root are users of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that everybody may write to, outside of the tests' own, which is closed; remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="octaskly-open-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def open_file(folder: Path, name: str) -> Path:
    """Make an empty file there that everybody may add to: the first command to make it would close it to the next."""
    path = folder / name
    path.touch()
    path.chmod(0o666)
    return path
