"""The spool's files: whole and for good, or not there; and never a reason not to start."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from worker_node.core.outcome import KeptOutput, Outcome
from worker_node.shell import durable
from worker_node.shell import spool as spool_module
from worker_node.shell.keyfile import StateFolderError
from worker_node.shell.spool import Damaged, Listener, Spool, entry_bytes, read_entry

OUTCOME = Outcome(
    OutcomeReport(
        FailureReason.SIGNAL, None, 1234, SandboxLevel.BASIC, "linux-spawner", signal=9, cpu_seconds=0.1 + 0.2,
        max_rss_bytes=1 << 33, limits={"memory": Enforcement.KERNEL}, detail="killed, é",
    ),
    KeptOutput(bytes(range(256)) * 10, 5_000_000_000, is_truncated=True),
    KeptOutput(b"", 0),
)  # fmt: skip


class Told:
    """Keeps what the spool tells, and lets a test wait for it."""

    def __init__(self):
        self.written: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.listener = Listener(
            self.written.append, lambda attempt_id, detail: self.failed.append((attempt_id, detail))
        )

    async def one(self):
        """Wait for the first word."""
        async with asyncio.timeout(10):
            while not (self.written or self.failed):
                await asyncio.sleep(0.001)


def write(folder: Path, *attempt_ids: str) -> Told:
    """Write outcomes and end."""

    async def main():
        told = Told()
        spool = Spool(folder, told.listener)
        for attempt_id in attempt_ids:
            spool.write(attempt_id, OUTCOME)
        await spool.close()
        await asyncio.sleep(0)
        return told

    return asyncio.run(main())


def load(folder: Path) -> dict[str, Outcome]:
    """Read a spool as the next start does."""

    async def main():
        spool = Spool(folder, Told().listener)
        outcomes = spool.load()
        await spool.close()
        return outcomes

    return asyncio.run(main())


def test_an_outcome_comes_back_as_it_was(tmp_path):
    """Every field and byte; files are closed to others."""
    told = write(tmp_path / "spool", "t1.1", "t2.1")
    assert (sorted(told.written), told.failed) == (["t1.1", "t2.1"], [])
    assert load(tmp_path / "spool") == {"t1.1": OUTCOME, "t2.1": OUTCOME}
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o600}


def test_a_deleted_outcome_is_gone(tmp_path):
    """And deleting what is not there is nothing."""

    async def main():
        told = Told()
        spool = Spool(tmp_path / "spool", told.listener)
        spool.write("t1.1", OUTCOME)
        await told.one()
        spool.delete("t1.1")
        spool.delete("t2.1")
        await spool.close()

    asyncio.run(main())
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_is_deleted_before_its_turn_is_not_written(tmp_path, monkeypatch):
    """An acknowledgement that comes while the disk is busy saves a write."""
    gate = threading.Event()
    real = spool_module.sync_folder

    def slow(folder):
        gate.wait(10)
        real(folder)

    monkeypatch.setattr(spool_module, "sync_folder", slow)

    async def main():
        told = Told()
        spool = Spool(tmp_path / "spool", told.listener)
        spool.write("t1.1", OUTCOME)
        async with asyncio.timeout(10):
            while not list((tmp_path / "spool").glob("t1.1.outcome")):
                await asyncio.sleep(0.001)
        spool.write("t2.1", OUTCOME)
        spool.delete("t2.1")
        gate.set()
        await spool.close()
        await asyncio.sleep(0)
        return told

    assert asyncio.run(main()).written == ["t1.1"]


def test_every_truncation_is_noticed():
    """However little is missing."""
    data = entry_bytes("t1.1", OUTCOME)
    for length in range(len(data)):
        with pytest.raises(Damaged):
            read_entry(data[:length], "t1.1")
    with pytest.raises(Damaged):
        read_entry(data + b"x", "t1.1")


def test_every_flipped_bit_is_noticed():
    """In the format, the digest and the outcome."""
    data = entry_bytes("t1.1", OUTCOME)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises(Damaged):
            read_entry(bytes(flipped), "t1.1")


def test_an_outcome_under_another_name_is_damaged():
    """A file that was copied over another one speaks for nobody."""
    with pytest.raises(Damaged, match=r"t2\.1"):
        read_entry(entry_bytes("t2.1", OUTCOME), "t1.1")


def test_a_damaged_entry_is_told_as_a_loss(tmp_path):
    """The attempt runs again elsewhere; the other entries are read as ever."""
    folder = tmp_path / "spool"
    write(folder, "t1.1", "t2.1", "t3.1")
    (folder / "t2.1.outcome").write_bytes(b"\0" * 100)
    (folder / "t3.1.outcome").unlink()
    (folder / "t3.1.outcome").mkdir()  # cannot be read at all
    loaded = load(folder)
    assert loaded["t1.1"] == OUTCOME
    for attempt_id in ("t2.1", "t3.1"):
        assert loaded[attempt_id].report.failure_reason is FailureReason.WORKER_LOST


def test_leftovers_and_strangers_do_no_harm(tmp_path):
    """Unfinished writes are removed; what is none of ours is left alone."""
    folder = tmp_path / "spool"
    write(folder, "t1.1")
    (folder / ".t9.1.outcome.new").write_bytes(b"half")
    (folder / "README").write_text("mine")
    (folder / "a b.outcome").write_text("no id")
    assert load(folder) == {"t1.1": OUTCOME}
    assert sorted(path.name for path in folder.iterdir()) == ["README", "a b.outcome", "t1.1.outcome"]


def test_a_spool_that_cannot_be_a_folder_is_named(tmp_path):
    """One clear error with the path."""
    (tmp_path / "spool").write_text("")

    async def main():
        Spool(tmp_path / "spool", Told().listener).load()

    with pytest.raises(StateFolderError, match="spool"):
        asyncio.run(main())


class FaultyOs:
    """The os module, whose N-th call that touches the disk fails."""

    TOUCHING = ("open", "write", "fsync", "close")

    def __init__(self, fails_at: int, number: int) -> None:
        self.calls = 0
        self._fails_at = fails_at
        self._number = number

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.TOUCHING:
            return real

        def call(*arguments, **named):
            self.calls += 1
            if self.calls == self._fails_at:
                if name == "close":
                    real(*arguments)
                raise OSError(self._number, os.strerror(self._number))
            return real(*arguments, **named)

        return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failure_at_any_step_leaves_nothing_half_done(tmp_path, monkeypatch, number):
    """Each operation fails in turn: the write is told as failed, nothing half remains, and the next try succeeds."""
    whole = FaultyOs(0, number)
    monkeypatch.setattr(durable, "os", whole)
    write(tmp_path / "whole", "t1.1")
    assert whole.calls >= 7
    for step in range(1, whole.calls + 1):
        folder = tmp_path / f"step-{step}"
        monkeypatch.setattr(durable, "os", FaultyOs(step, number))
        told = write(folder, "t1.1")
        assert (told.written, [attempt_id for attempt_id, _ in told.failed]) == ([], ["t1.1"]), f"step {step}"
        assert os.strerror(number) in told.failed[0][1]
        assert {path.name for path in folder.iterdir()} <= {"t1.1.outcome"}
        monkeypatch.setattr(durable, "os", os)
        assert write(folder, "t1.1").written == ["t1.1"]
        assert load(folder) == {"t1.1": OUTCOME}
