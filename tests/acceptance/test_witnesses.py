"""Workers as witnesses: who puts an older copy of everything back is told on by the first worker that connects."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.programs import Program
from tests.support.wait import wait_until


def contradictions(cluster: Cluster) -> list[dict[str, object]]:
    """Return the details of what was recorded."""
    rows = cluster.rows("SELECT details FROM audit_log WHERE event_type = 'audit_contradicted' AND worker_id <> ''")
    return [json.loads(details) for (details,) in rows]


def heads(folder: Path) -> set[str]:
    """Return what the checkpoints beside a database vouch for."""
    return {json.loads(line)["head"] for line in (folder / "audit-checkpoints.jsonl").read_text().splitlines()}


def stop(program: Program | None) -> None:
    """End a program in order."""
    assert program is not None
    assert program.stop() == 0


@pytest.mark.slow
def test_a_rolled_back_cluster_is_told_on_and_a_restore_explains(new_cluster: Callable[..., Cluster]) -> None:
    """An older copy of the whole folder: an alarm in log and audit, and for auditverify; after `restore` an explanation."""
    cluster = new_cluster()
    cluster.start_dispatcher()
    cluster.start_worker("alpha")
    cluster.wait_connected("alpha")
    backup = cluster.folder / "backup.db"
    assert cluster.manage("backup", str(backup)).returncode == 0
    stop(cluster.dispatcher)
    folder, copy = cluster.db_path.parent, cluster.folder / "copy"
    shutil.copytree(folder, copy)

    cluster.start_dispatcher()
    cluster.wait_connected("alpha")
    cluster.wait_ended(*(cluster.api.submit("true") for _ in range(3)))
    stop(cluster.dispatcher)
    cluster.start_dispatcher()
    kept = cluster.state_dir("alpha") / "witness.jsonl"
    later = heads(folder) - heads(copy)

    def is_witnessed() -> bool:
        return kept.exists() and any(head in kept.read_text() for head in later)

    wait_until(is_witnessed, "the worker keeps a checkpoint from after the copy", describe=cluster.describe)
    printing = [sys.executable, "-m", "worker_node", "--witness", "--state-dir", str(cluster.state_dir("alpha"))]
    printed = cluster.run("printed", printing)
    assert printed.process.wait(30) == 0
    witness = cluster.folder / "witness.jsonl"
    witness.write_text(printed.stdout)
    assert cluster.manage("auditverify", "--witness", str(witness)).returncode == 0
    assert contradictions(cluster) == []
    stop(cluster.dispatcher)

    # An older copy of all that is on the machine, which is whole in itself.
    shutil.move(folder, cluster.folder / "kept")
    shutil.copytree(copy, folder)
    assert cluster.manage("auditverify").returncode == 0
    done = cluster.manage("auditverify", "--witness", str(witness))
    assert (done.returncode, "beyond the trail's end" in done.stderr) == (1, True), done
    cluster.start_dispatcher()
    cluster.wait_connected("alpha")
    wait_until(lambda: contradictions(cluster), "the worker contradicts", describe=cluster.describe)
    # The row is committed first: the log's line comes a moment after it can be read.
    told = cluster.dispatcher
    assert told is not None
    wait_until(lambda: "contradicts the audit trail" in told.stderr, "the log tells", describe=cluster.describe)
    stop(told)

    # The same by right: the trail says so itself.
    shutil.rmtree(folder)
    shutil.move(cluster.folder / "kept", folder)
    done = cluster.manage("restore", "--force", str(backup))
    assert done.returncode == 0, done.stderr
    done = cluster.manage("auditverify", "--witness", str(witness))
    assert (done.returncode, "a restored backup replaced" in done.stdout) == (0, True), done
    cluster.start_dispatcher()
    cluster.wait_connected("alpha")
    wait_until(lambda: contradictions(cluster), "the worker contradicts", describe=cluster.describe)
    assert all("explained_by_row" in details for details in contradictions(cluster))
