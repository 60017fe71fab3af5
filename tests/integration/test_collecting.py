"""Collecting from folders as bad as they come, made here directly: no end of entries, no end of bytes, and races."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from octaskly_wire.messages import OutputFile
from worker_node.sandbox import kernel
from worker_node.sandbox.collecting import MAX_ENTRIES, CannotCollect, Rules, collect
from worker_node.sandbox.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the attacks are made with POSIX calls")

GIB = 1 << 30
SECRET = b"outside"
RACES = 2000
REST_S = 0.0001
"""In each state, so that it is met."""


@pytest.fixture(params=["by the kernel", "by parts"])
def way(request, monkeypatch):
    """Resolve names beneath a folder in both ways."""
    if request.param == "by parts":
        monkeypatch.setattr(kernel, "open_beneath", _missing)
    return request.param


def _missing(*_: object) -> int:
    raise OSError(38, "Function not implemented")


def take_all(name: str, fd: int, size_bytes: int) -> OutputFile:
    """Read an output as a worker would, and keep what it says in the place of its digest."""
    return OutputFile(name, os.read(fd, min(size_bytes, 100)).decode(), size_bytes)


def take_none(name: str, fd: int, size_bytes: int) -> OutputFile:
    """Fail: this output was to be refused before it is read."""
    raise AssertionError(f"{name} was taken, {size_bytes} bytes of {fd}")


def collected(folder: Path, *patterns: str, take=take_all, max_bytes: int = GIB, inputs=(), owner: int | None = None):
    """Collect from a folder."""
    with Tree(folder) as tree:
        whose = tree.owner if owner is None else owner
        rules = Rules(patterns, frozenset(inputs), covered={}, known=frozenset(), owner=whose, max_bytes=max_bytes)
        return collect(tree, rules, take)


def test_honest_files_are_found(tmp_path, way):
    """By name and by glob, each once, without the inputs."""
    for name in ("a.txt", "in.txt", "sub/b.txt", "sub/deep/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = collected(tmp_path, "a.txt", "**/*.txt", "sub/*", inputs=["in.txt"])
    assert [file.name for file in found.files] == ["a.txt", "sub/b.txt", "sub/deep/c.txt"]
    assert all(file.name == file.sha256 for file in found.files)
    assert found.missing == []


def test_what_is_not_there_is_named_with_its_reason(tmp_path, way):
    """All of it at once, so that one run tells all."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    found = collected(tmp_path, "nix", "folder", "link", "link/x", "pipe", "*.png", "p*", take=take_none)
    assert (
        found.missing
        == [
            "nix does not exist",
            "folder is a folder, not a regular file",
            "link is a symbolic link, not a regular file",
            "link/x cannot be reached without following a link",
            "pipe is a pipe, not a regular file",
            "*.png (nothing matches)",
            "p* ('pipe' is a pipe, not a regular file)",
        ]
        or found.missing[3] == "link/x does not exist"
    )  # what the kernel calls it where it goes by parts


def test_the_files_of_others_are_not_taken(tmp_path, way):
    """Neither those of another user nor those that have a second name somewhere."""
    (tmp_path / "mine").write_text("x")
    [missing] = collected(tmp_path, "mine", take=take_none, owner=4242).missing
    assert missing == "mine belongs to another user"
    (tmp_path / "second").hardlink_to(tmp_path / "mine")
    [missing] = collected(tmp_path, "mine", take=take_none).missing
    assert missing == "mine has further names (hard links)"


def test_a_sparse_file_counts_by_its_size(tmp_path, way):
    """Ten terabytes that take no room on the disk are not even opened."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 << 40)
    with pytest.raises(CannotCollect, match="'sparse' has 10995116277760 bytes, 1073741824 are left"):
        collected(tmp_path, "sparse", take=take_none)


def test_the_cap_holds_for_all_outputs_together(tmp_path, way):
    """The first that does not fit any more is named, and none is copied."""
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(40))
    with pytest.raises(CannotCollect, match="'c' has 40 bytes, 20 are left"):
        collected(tmp_path, "*", take=take_none, max_bytes=100)


def test_a_hundred_thousand_files_end_the_search_early():
    """The number that is allowed is named."""
    # In memory: made and removed sooner, and nothing of it is kept for a look afterwards.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if sys.platform == "linux" else None) as name:
        folder = os.open(name, os.O_RDONLY)
        for number in range(100_000):
            os.mknod(f"{number}.txt", stat.S_IFREG | 0o600, dir_fd=folder)
        os.close(folder)
        with pytest.raises(CannotCollect, match=r"more than 500 files match the outputs \*\.txt"):
            collected(Path(name), "*.txt", take=take_none)
        assert collected(Path(name), "*.png", take=take_none).missing == ["*.png (nothing matches)"]


def test_a_search_among_too_many_entries_is_given_up(tmp_path, way, monkeypatch):
    """The number is named, and it is one that an honest task does not meet."""
    assert MAX_ENTRIES >= 100_000
    monkeypatch.setattr("worker_node.sandbox.collecting.MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    with pytest.raises(CannotCollect, match="10 files and folders or more"):
        collected(tmp_path, "*.png", take=take_none)


def test_a_search_in_folders_without_an_end_is_given_up(tmp_path, way):
    """Only where a glob would have to look that deep."""
    (tmp_path / Path(*"d" * 40)).mkdir(parents=True)
    with pytest.raises(CannotCollect, match="more than 32 deep"):
        collected(tmp_path, "**/x", take=take_none)
    assert collected(tmp_path, "*/*/x").missing == ["*/*/x (nothing matches)"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "aux", "x.", "\u202etxt", "a\udcffb"])
def test_a_name_that_nobody_could_use_is_named(tmp_path, way, name):
    """The file is there, and whoever declared the glob hears which name is in the way."""
    (tmp_path / name).write_text("x")
    with pytest.raises(CannotCollect, match=r"output .*: the name (must not|is not)"):
        collected(tmp_path, "*", take=take_none)


def test_names_that_are_one_on_some_system_are_not_taken(tmp_path, way):
    """Upper and lower case do not tell two files apart everywhere."""
    for name in ("Frame.png", "frame.png"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system is one where they are the same")
    with pytest.raises(CannotCollect, match=r"'frame\.png': the name of another output differs only"):
        collected(tmp_path, "*.png", take=take_none)


@pytest.mark.parametrize("pattern", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_a_pattern_that_leads_out_is_refused(tmp_path, way, pattern):
    """Also when it came past the checks at submission."""
    with pytest.raises(CannotCollect, match="output"):
        collected(tmp_path, pattern, take=take_none)


def test_a_way_up_is_never_gone(tmp_path, way):
    """By the tree itself, whoever asks."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    with Tree(tmp_path / "inside") as tree:
        for name in ("../secret", "x/../../secret", ".."):
            with pytest.raises(OSError, match=r"cross-device|No such file"):
                os.close(tree.open(name))


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_whoever_swaps_names_meanwhile_gets_nothing_from_outside(tmp_path, way, swapped):
    """A file or a folder on the way becomes a link outside and back, all the time: never is anything but the own taken."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder, text in ((outside, SECRET), (inside / "dir", b"own")):
        folder.mkdir(parents=True)
        (folder / "out").write_bytes(text)
    target = inside / "dir" / "out" if swapped == "file" else inside / "dir"
    other, link = target.with_name("other"), target.with_name("link")
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            link.symlink_to(outside / target.name if swapped == "file" else outside)
            target.rename(other)
            link.rename(target)
            is_over.wait(REST_S)
            target.unlink()
            other.rename(target)
            is_over.wait(REST_S)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(RACES):
            found = collected(inside, "dir/out", "d*/out")
            seen |= {file.sha256 for file in found.files}
    finally:
        is_over.set()
        thread.join()
    assert seen <= {"own"}
    assert seen, "the races never met the file, so they prove nothing"
