"""Contents that wait to be sent: on disk for as long as an attempt needs them, and not longer."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import pytest

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tests.support.sandbox_bench import play, until
from tests.support.shelf import Shelf
from worker_node.config import FileSettings
from worker_node.sandbox.collecting import CannotCollect
from worker_node.shell import removing
from worker_node.shell.outgoing import Outgoing
from worker_node.shell.stoppable import Stop, Stopped
from worker_node.shell.task_files import TaskFiles


@pytest.fixture
def outgoing(tmp_path):
    """Return an empty folder of contents."""
    return Outgoing(tmp_path / "outgoing")


def add(outgoing: Outgoing, attempt_id: str, data: bytes, size_bytes: int = 1 << 20, stop: Stop | None = None):
    """Add a content from an open file."""
    path = outgoing.folder.with_name("source")
    path.write_bytes(data)
    with path.open("rb") as source:
        return outgoing.add(attempt_id, "name", source.fileno(), size_bytes, stop or Stop())


def names(outgoing: Outgoing) -> set[str]:
    """Return what lies there."""
    return {path.name for path in outgoing.folder.iterdir()}


def test_a_content_lies_under_its_digest(outgoing):
    """And is read back as it was."""
    file = add(outgoing, "t1.1", b"content")
    assert (file.name, file.size_bytes, file.sha256) == ("name", 7, hashlib.sha256(b"content").hexdigest())
    assert names(outgoing) == {file.sha256}
    with outgoing.open(file.sha256) as content:
        assert content.read() == b"content"


def test_no_more_is_taken_than_was_counted(outgoing):
    """A file that grows meanwhile is cut, one that shrank is what it is."""
    assert add(outgoing, "t1.1", b"content", size_bytes=3).sha256 == hashlib.sha256(b"con").hexdigest()
    assert add(outgoing, "t1.1", b"content", size_bytes=99).size_bytes == 7


def test_equal_contents_of_two_attempts_stay_until_the_last_lets_go(outgoing):
    """Whichever that is."""
    file = add(outgoing, "t1.1", b"same")
    add(outgoing, "t2.1", b"same")
    outgoing.release("t1.1")
    assert names(outgoing) == {file.sha256}
    outgoing.release("t2.1")
    assert names(outgoing) == set()


def test_another_life_keeps_what_is_held_and_wipes_the_rest(outgoing):
    """What nobody names, and what was not finished."""
    kept, lost = add(outgoing, "t1.1", b"kept"), add(outgoing, "t2.1", b"lost")
    (outgoing.folder / ".0123.new").touch()
    (outgoing.folder / "README").touch()
    next_life = Outgoing(outgoing.folder)
    next_life.hold("t1.1", [kept.sha256])
    next_life.wipe_unheld()
    assert names(outgoing) == {kept.sha256, "README"}
    assert lost.sha256 not in names(outgoing)


def test_a_copy_that_is_stopped_leaves_nothing(outgoing):
    """Not even a part."""
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        add(outgoing, "t1.1", b"content", stop=stop)
    assert names(outgoing) == set()


def test_a_large_content_is_out_of_sight_at_once(outgoing, monkeypatch):
    """Its blocks are freed on a thread, so that no heartbeat waits for it."""
    monkeypatch.setattr(removing, "LARGE_BYTES", 4)

    async def main():
        file = add(outgoing, "t1.1", b"large enough")
        outgoing.release("t1.1")
        assert file.sha256 not in names(outgoing)

    asyncio.run(main())
    assert names(outgoing) == set()


def test_an_output_that_would_leave_too_little_room_is_not_collected(tmp_path):
    """The reason has the numbers. It is copied, since it is still open to be written."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "out").write_bytes(b"x")
    assignment = AssignAttempt("t.1", "t", "true", 1, SandboxLevel.BASIC, allows_network=False, outputs=["out"])

    async def main():
        files = TaskFiles(tmp_path, FileSettings(), 1 << 60, Shelf(), has_own_users=False)
        with (
            (tmp_path / "work" / "out").open("ab"),
            pytest.raises(CannotCollect, match=r"'out': no room on the worker's disk: 1 MB needed, \d+ MB free"),
        ):
            await files.collect(assignment, tmp_path / "work")
        await files.close()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")
@pytest.mark.parametrize(("at_once", "reason"), [(False, FailureReason.CANCELLED), (True, FailureReason.WORKER_LOST)])
def test_a_stop_ends_an_attempt_whose_outputs_are_being_copied(tmp_path, at_once, reason):
    """Long before they are, and nothing of them is kept."""

    async def scene(bench):
        ending = bench.start("truncate -s 1000M out", outputs=["out"])
        await until(lambda: any(bench.files.outgoing.folder.iterdir()))
        bench.runner.stop(ending.attempt_id, at_once=at_once)
        await ending.is_over.wait()
        return ending.report

    report = play(tmp_path, scene)
    assert (report.failure_reason, report.outputs, report.exit_code) == (reason, [], 0)
    assert not list((tmp_path / "outgoing").iterdir())
    assert not list((tmp_path / "work").iterdir())
