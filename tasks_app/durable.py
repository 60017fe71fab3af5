"""Brings names to the disk for good."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return when the folder's names are on disk; raises OSError."""
    if os.name == "nt":  # Folders cannot be opened there; NTFS keeps names in a journal.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
