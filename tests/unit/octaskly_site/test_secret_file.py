"""The file with the secret key: a start without doubt about who could read or replace it, or no start at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from octaskly_site.env import ConfigurationError
from octaskly_site.secret_key import SECRET_FILE, derive_keys, find_secret

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")

SECRET = "a secret for this test alone"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A secret key file as the dispatcher makes it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    path = folder / SECRET_FILE
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_it_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    """Folder and file; the second start finds the same secret, and a command that only looks makes none."""
    folder = tmp_path / "new"
    assert find_secret(folder, "", may_create=False) != find_secret(folder, "", may_create=False)
    assert not folder.exists()
    made = find_secret(folder, "", may_create=True)
    assert find_secret(folder, "", may_create=True) == find_secret(folder, "", may_create=False) == made
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in (folder, *folder.iterdir())] == [0o700, 0o600]


@pytest.mark.parametrize("may_create", [True, False])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_open_to_others_is_refused(path: Path, mode: int, may_create: bool) -> None:
    """With the line that closes it."""
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        find_secret(path.parent, "", may_create=may_create)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_write_in_is_refused(path: Path, mode: int) -> None:
    """They could put another file in its place; where only owners may remove, as in /tmp, they cannot."""
    path.parent.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod go-w {path.parent}"):
        find_secret(path.parent, "", may_create=True)
    path.parent.chmod(mode | stat.S_ISVTX)
    assert find_secret(path.parent, "", may_create=True) == SECRET


def test_a_foreign_owner_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gave us a key knows it."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigurationError, match=f"{path} belongs to another user"):
        find_secret(path.parent, "", may_create=True)


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    """Whether or not it leads anywhere."""
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=f"{path} is a symbolic link"):
        find_secret(path.parent, "", may_create=True)
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(ConfigurationError, match=f"{path} is a symbolic link"):
        find_secret(path.parent, "", may_create=True)


def test_what_is_no_file_is_refused(path: Path) -> None:
    """A pipe without a writer does not hold up the start, and bytes that are no text are told."""
    path.write_bytes(b"\xff" * 32)
    with pytest.raises(ConfigurationError, match="cannot use"):
        find_secret(path.parent, "", may_create=True)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="at least"):
        derive_keys(find_secret(path.parent, "", may_create=True))
