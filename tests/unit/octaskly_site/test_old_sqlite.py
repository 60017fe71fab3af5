"""A dispatcher does not begin with a SQLite that cannot run the engine's statements."""

from __future__ import annotations

import sqlite3

import pytest

from octaskly_site.database import prepare_database
from octaskly_site.env import ConfigurationError


def test_an_old_sqlite_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    """The message names the version there is and the one that is needed; no file is left behind."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(ConfigurationError, match=r"3\.34\.1.*3\.35"):
        prepare_database(tmp_path / "data" / "octaskly.db")
    assert not any(tmp_path.iterdir())
