"""Outputs are put into their folder, and never anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from octaskly.errors import BadFile
from octaskly.placing import placed


def put(folder: Path, name: str, data: bytes = b"new") -> None:
    """Place a file."""
    with placed(folder, name) as file:
        file.write(data)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder, with others around it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_folders_are_made_and_old_files_replaced(home) -> None:
    """An output has its whole name, over what was there before."""
    put(home, "a/b/c.txt", b"old")
    put(home, "a/b/c.txt")
    assert (home / "a/b/c.txt").read_bytes() == b"new"
    assert sorted(path.name for path in (home / "a/b").iterdir()) == ["c.txt"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a//b", "c:x", "a\\b", "con", "a/./b", "x\0y"])
def test_names_that_lead_elsewhere_are_refused(home, name) -> None:
    """A server cannot name a place outside."""
    with pytest.raises(BadFile):
        put(home, name)
    assert list(home.iterdir()) == []


def test_a_link_on_the_way_is_not_followed(home) -> None:
    """A folder that is a link leads nowhere."""
    (home / "a").symlink_to(home.parent / "outside", target_is_directory=True)
    with pytest.raises(BadFile, match="'a' on the way"):
        put(home, "a/x")
    assert list((home.parent / "outside").iterdir()) == []


def test_a_link_in_place_of_the_file_is_not_written_through(home) -> None:
    """Neither its target nor the link itself changes."""
    target = home.parent / "outside" / "target"
    target.write_text("mine")
    (home / "x").symlink_to(target)
    with pytest.raises(BadFile, match="is a link here"):
        put(home, "x")
    assert (target.read_text(), (home / "x").is_symlink()) == ("mine", True)


def test_a_folder_is_not_replaced(home) -> None:
    """A folder of the output's name stays."""
    (home / "x").mkdir()
    with pytest.raises(BadFile, match="is a folder here"):
        put(home, "x")


def test_a_file_on_the_way_is_told(home) -> None:
    """A file cannot be a folder."""
    (home / "a").write_text("")
    with pytest.raises(BadFile, match="on the way"):
        put(home, "a/x")


def test_a_download_that_fails_leaves_nothing(home) -> None:
    """The old file is whole, and no half one lies around."""
    put(home, "x", b"old")

    def break_off() -> None:
        with placed(home, "x") as file:
            file.write(b"half")
            raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        break_off()
    assert ([path.name for path in home.iterdir()], (home / "x").read_bytes()) == (["x"], b"old")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_files_have_the_mode_that_files_have(home) -> None:
    """As if a program here had written it."""
    put(home, "x")
    (home / "y").touch()
    assert (home / "x").stat().st_mode == (home / "y").stat().st_mode
