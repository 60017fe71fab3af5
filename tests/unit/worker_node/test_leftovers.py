"""Files that a user's commands left in shared memory are removed, also where nothing was for long."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

import pytest

from worker_node.sandbox import kernel, leftovers
from worker_node.sandbox.leftovers import Leftovers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

USER = 61_234


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Return a folder that stands for the shared ones; no objects are looked for."""
    monkeypatch.setattr(leftovers, "_FOLDERS", (str(tmp_path), str(tmp_path / "missing")))
    monkeypatch.setattr(leftovers, "_KINDS", ())
    return tmp_path


def test_what_comes_right_after_a_look_is_found(shared):
    """However soon: a change within the tick of the last one is not taken for none."""
    found = Leftovers(os.geteuid())
    (shared / "folder").mkdir()
    for number in range(200):
        (shared / str(number)).touch()
        found.remove()
        assert [path.name for path in shared.iterdir()] == ["folder"]


def test_a_folder_that_was_clean_for_long_is_searched_once_it_changes(shared, monkeypatch):
    """As long as it does not change nobody reads it."""
    found = Leftovers(os.geteuid())
    os.utime(shared)
    monkeypatch.setattr(leftovers, "TICK_NS", -1)  # as if long ago
    found.remove()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)
        found.remove()
    (shared / "left").touch()
    os.utime(shared, ns=(1, 1))  # which hides nothing
    found.remove()
    assert list(shared.iterdir()) == []


def test_files_of_others_stay(shared):
    """A folder with nothing but their files is clean."""
    (shared / "theirs").touch()
    Leftovers(os.geteuid() + 1).remove()
    assert (shared / "theirs").exists()


def test_only_a_time_that_each_later_change_replaces_tells_of_changes():
    """Not one within the last tick, nor one of a file system that counts whole seconds."""
    long_ago_ns = time.time_ns() // 1_000_000_000 * 1_000_000_000 - 3_000_000_000
    assert leftovers.tells_changes(long_ago_ns + 1)
    assert not leftovers.tells_changes(long_ago_ns)
    assert not leftovers.tells_changes(time.time_ns())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_an_object_that_was_given_away_is_removed_too(monkeypatch):
    """Its creator may make any user its owner."""
    monkeypatch.setattr(leftovers, "_FOLDERS", ())
    made, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(USER, USER, USER)
        os.write(told, b"%d" % given_away_segment(USER + 1))
        os._exit(0)
    os.waitpid(pid, 0)
    number = int(os.read(made, 16))
    os.close(made)
    os.close(told)
    try:
        assert number in segments()
        Leftovers(USER).remove()
        assert number not in segments()
    finally:
        with contextlib.suppress(OSError):
            kernel.remove_object("shm", number)


def given_away_segment(owner: int) -> int:
    """Make a segment of shared memory and give it to a user."""
    libc = ctypes.CDLL(None)
    number = libc.shmget(0, 4096, 0o600)
    facts = (ctypes.c_uint * 64)()
    libc.shmctl(number, 2, facts)
    facts[1] = owner
    libc.shmctl(number, 1, facts)
    return number


def segments() -> list[int]:
    """Return the numbers of all segments."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [int(line.split()[1]) for line in lines]
