"""What a worker keeps of the cluster's audit trail: the highest checkpoint for good, and only its own cluster's."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from octaskly_wire.identity import make_ca
from octaskly_wire.messages import AuditCheckpoint
from worker_node.shell import witness as witness_module
from worker_node.shell.keyfile import Identity, StateFolder
from worker_node.shell.witness import FILE, Witness, print_kept

CA, _ = make_ca("c", datetime.now(UTC))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    """An open state folder of a worker of cluster c."""
    with closing(StateFolder(tmp_path / "state")) as opened:
        opened.save_identity(Identity("w", "c", b"cert", (CA,), opened.load_or_make_key()))
        yield opened


def checkpoint(row_id: int, head: str = "a") -> AuditCheckpoint:
    """Return a checkpoint of a row."""
    return AuditCheckpoint(row_id, head * 64, "2026-01-01T00:00:00.000000+00:00", bytes(64))


def keep(folder: StateFolder, *checkpoints: AuditCheckpoint) -> Witness:
    """Keep these, with all on disk, and return the witness."""

    async def run() -> Witness:
        witness = Witness(folder)
        for one in checkpoints:
            witness.keep(one)
        await witness.close()
        return witness

    return asyncio.run(run())


def test_the_highest_stays_over_restarts(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A lower one, or another of the same row, takes no place; all that rose are printed; the file is private."""
    assert keep(folder).highest is None
    assert keep(folder, checkpoint(5), checkpoint(9), checkpoint(7), checkpoint(9, "b")).highest == checkpoint(9)
    assert keep(folder).highest == checkpoint(9)
    keep(folder, checkpoint(12))
    assert print_kept(folder.path) == 0
    assert [json.loads(line)["row_id"] for line in capsys.readouterr().out.splitlines()] == [5, 9, 12]
    assert stat.S_IMODE((folder.path / FILE).stat().st_mode) == 0o600


def test_another_cluster_is_shown_nothing(folder: StateFolder) -> None:
    """A state folder that joins another cluster begins anew there, and forgets nothing of the one before."""
    keep(folder, checkpoint(9))
    folder.save_identity(Identity("w", "d", b"cert", (CA,), folder.load_or_make_key()))
    assert keep(folder).highest is None
    assert keep(folder, checkpoint(3)).highest == checkpoint(3)
    assert len([line for line in (folder.path / FILE).read_text().splitlines() if line]) == 2


def test_a_torn_line_costs_only_itself(folder: StateFolder) -> None:
    """As a power cut may leave it, or a hand."""
    keep(folder, checkpoint(4))
    with (folder.path / FILE).open("a") as file:
        file.write('{"cluster_id": "c", "row_id": 8, "he')
    assert keep(folder, checkpoint(6)).highest == checkpoint(6)
    assert keep(folder).highest == checkpoint(6)


def test_the_file_is_bounded(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many the older half goes."""
    monkeypatch.setattr(witness_module, "MAX_LINES", 8)
    for row_id in range(1, 31):
        keep(folder, checkpoint(row_id))
    lines = [json.loads(line)["row_id"] for line in (folder.path / FILE).read_text().splitlines() if line]
    assert lines[-1] == 30
    assert len(lines) <= 9


def test_a_worker_without_checkpoints_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 1 and nothing on stdout."""
    assert print_kept(tmp_path) == 1
    assert capsys.readouterr().out == ""
