"""Which names local files get as inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from octaskly.errors import BadFile
from octaskly.inputs import Contents, local_files


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A current folder with files in and around it."""
    base = tmp_path / "here"
    for name in ("here/a.txt", "here/data/b.txt", "here/data/deep/c.txt", "outside/d.txt", "outside/e/f.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return base


def names(base: Path, *paths: str) -> list[str]:
    """Return the names that paths give."""
    return [file.name for file in local_files(paths, base)]


def test_files_below_keep_their_way(base) -> None:
    """A command finds its input where it was named."""
    assert names(base, "a.txt", "./data/b.txt", str(base / "data/deep/c.txt")) == [
        "a.txt",
        "data/b.txt",
        "data/deep/c.txt",
    ]


def test_files_elsewhere_go_by_their_last_part(base) -> None:
    """What lies outside comes in by its own name."""
    assert names(base, "../outside/d.txt") == ["d.txt"]


def test_folders_are_walked(base) -> None:
    """A folder is all its files; one from outside keeps its own name."""
    assert names(base, "data", "../outside") == ["data/b.txt", "data/deep/c.txt", "outside/d.txt", "outside/e/f.txt"]


def test_the_current_folder_is_walked_without_a_name(base) -> None:
    """`-i .` gives what is in it."""
    assert names(base, ".") == ["a.txt", "data/b.txt", "data/deep/c.txt"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["none"], "there is no such file"),
        (["a.txt", "A.txt"], "Two inputs"),
        (["a.txt", "./a.txt"], "Two inputs"),
        (["empty"], "without files"),
        (["bad:name"], "a colon"),
    ],
)
def test_what_cannot_be_an_input_is_told(base, paths, message) -> None:
    """The sentence names the file and the cause."""
    (base / "empty").mkdir()
    (base / "bad:name").touch()
    (base / "A.txt").touch()
    with pytest.raises(BadFile, match=message):
        local_files(paths, base)


def test_a_name_is_sent_in_composed_form(base) -> None:
    """A name as macOS stores it, decomposed, is the same name elsewhere."""
    (base / "a\u0308.txt").touch()
    assert names(base, "a\u0308.txt") == ["\u00e4.txt"]


def test_a_digest_follows_its_file(base) -> None:
    """A changed file has another digest, an unchanged one is not read again."""
    contents, path = Contents(), base / "a.txt"
    before = contents.of(path)
    assert contents.of(path) is before
    path.write_text("changed, and longer")
    assert contents.of(path) != before
