"""Outputs that are taken over without a copy, and those that have to be copied since somebody could still change them."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import stat
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.shelf import Shelf
from worker_node.config import FileSettings
from worker_node.shell.outgoing import Outgoing
from worker_node.shell.stoppable import Stop, Stopped
from worker_node.shell.task_files import TaskFiles

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all outputs are copied")

DATA = b"an output"
NOBODY = 65_534


@pytest.fixture
def outgoing(tmp_path):
    """Return an empty folder of contents."""
    return Outgoing(tmp_path / "outgoing")


@pytest.fixture
def output(tmp_path):
    """Return a file that a command left."""
    path = tmp_path / "output"
    path.write_bytes(DATA)
    path.chmod(0o666)
    return path


def taken_over(outgoing: Outgoing, path: Path, attempt_id: str = "t1.1", size_bytes: int = len(DATA), stop=None):
    """Take a file over; None when it has to be copied."""
    with path.open("rb") as file:
        return outgoing.take_over(attempt_id, "name", file.fileno(), size_bytes, stop or Stop())


def test_an_output_is_kept_as_it_is_and_closed_to_others(outgoing, output):
    """The very same file, whatever becomes of its old name."""
    number = output.stat().st_ino
    content = taken_over(outgoing, output)
    assert (content.name, content.size_bytes, content.sha256) == ("name", 9, hashlib.sha256(DATA).hexdigest())
    output.unlink()
    kept = outgoing.folder / content.sha256
    assert (kept.stat().st_ino, stat.S_IMODE(kept.stat().st_mode)) == (number, 0o400)
    assert kept.read_bytes() == DATA
    outgoing.release("t1.1")
    assert not list(outgoing.folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_file_of_a_slots_user_becomes_the_workers(outgoing, output):
    """That user could give it another mode otherwise."""
    os.chown(output, NOBODY, NOBODY)
    content = taken_over(outgoing, output)
    status = (outgoing.folder / content.sha256).stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize("way", ["open", "mapped", "named twice", "grown"])
def test_what_somebody_could_still_change_is_not_taken_over(outgoing, output, way):
    """Neither while it is open or mapped to be written, nor under a second name; and a copy of it can be made."""
    with ExitStack() as stack:
        if way == "named twice":
            output.with_name("second").hardlink_to(output)
        elif way == "grown":
            output.write_bytes(DATA * 2)
        else:
            writer = os.open(output, os.O_RDWR)
            if way == "mapped":
                stack.enter_context(mmap.mmap(writer, len(DATA)))
                os.close(writer)
            else:
                stack.callback(os.close, writer)
        assert taken_over(outgoing, output) is None
        assert not list(outgoing.folder.iterdir())
        with output.open("rb") as file:
            content = outgoing.add("t1.1", "name", file.fileno(), len(DATA), Stop())
    assert (outgoing.folder / content.sha256).stat().st_ino != output.stat().st_ino
    assert (outgoing.folder / content.sha256).read_bytes() == DATA


def test_what_lies_on_another_file_system_is_not_taken_over(outgoing):
    """As at very_strict, where the command works in memory."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        if os.fstat(file.fileno()).st_dev == outgoing.folder.stat().st_dev:
            pytest.skip("the test's folder is in memory, too")
        file.write(DATA)
        file.flush()
        assert taken_over(outgoing, Path(file.name)) is None
    assert not list(outgoing.folder.iterdir())


def test_equal_outputs_are_one_content_until_the_last_attempt_lets_go(outgoing, output, tmp_path):
    """The second file is gone at once, and the first serves both."""
    number = output.stat().st_ino
    content = taken_over(outgoing, output)
    (tmp_path / "again").write_bytes(DATA)
    assert taken_over(outgoing, tmp_path / "again", "t2.1") == content
    assert [path.stat().st_ino for path in outgoing.folder.iterdir()] == [number]
    outgoing.release("t1.1")
    with outgoing.open(content.sha256) as kept:
        assert kept.read() == DATA
    outgoing.release("t2.1")
    assert not list(outgoing.folder.iterdir())


def test_a_stop_amid_it_leaves_nothing(outgoing, output):
    """The file stays with its attempt."""
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        taken_over(outgoing, output, stop=stop)
    assert not list(outgoing.folder.iterdir())
    assert output.read_bytes() == DATA


@pytest.mark.parametrize("level", [SandboxLevel.STRICT, SandboxLevel.VERY_STRICT])
def test_an_input_that_is_an_output_stays_with_the_cache(tmp_path, level):
    """It is copied, and the cache's file is what it was, with its owner and mode."""

    async def main():
        shelf = Shelf()
        files = TaskFiles(tmp_path, FileSettings(), 0, shelf, has_own_users=True)
        inputs = [shelf.put("in", DATA)]
        assignment = AssignAttempt("t.1", "t", "true", 1, level, allows_network=False, inputs=inputs, outputs=["in"])
        (tmp_path / "work").mkdir()
        await files.stage(assignment, tmp_path / "work")
        [cached] = (tmp_path / "cache").glob("??/*")
        before = cached.stat()
        [content] = (await files.collect(assignment, tmp_path / "work")).files
        after = cached.stat()
        assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
        sent = tmp_path / "outgoing" / content.sha256
        assert (sent.read_bytes(), sent.stat().st_ino == cached.stat().st_ino) == (DATA, False)
        await files.close()

    asyncio.run(main())
