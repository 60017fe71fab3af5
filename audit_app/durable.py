"""Brings files and names to the disk for good."""

from __future__ import annotations

import os
from pathlib import Path


def create_file(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, whose bytes are on disk when this returns; raises OSError, also where one is there.

    Its name is on disk only after `sync_folder`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the folder's names are on disk; raises OSError."""
    if os.name == "nt":  # Folders cannot be opened there; NTFS keeps names in a journal.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
