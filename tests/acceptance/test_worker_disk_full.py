"""The disk of a worker is full: it takes nothing new and says so, loses no outcome, and room alone mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.small_disk import SmallDisk
from tests.support.wait import wait_until

GATED = "while [ ! -e {gate} ]; do sleep 0.05; done; echo over"


def wait_worker(cluster: Cluster, name: str, status: str) -> dict:
    """Return the worker once REST shows this status."""

    def reached() -> dict | None:
        worker = cluster.api.worker_named(name)
        return worker if worker["status"] == status else None

    return wait_until(reached, f"{name} is {status}", describe=cluster.describe)


def test_a_full_worker_takes_nothing_new_and_recovers_by_itself(
    cluster: Cluster, disk: SmallDisk, tmp_path: Path
) -> None:
    """What runs goes on and is recorded; what waits says why; with room again it is taken without an operator."""
    gate = tmp_path / "gate"
    worker = cluster.start_worker("small", "--state-dir", str(disk.folder / "state"), "--disk-reserve-mb", "4", slots=2)
    cluster.wait_connected("small")
    running = cluster.api.submit(GATED.format(gate=gate))
    cluster.wait_status(running, "running")

    disk.fill()
    paused = wait_worker(cluster, "small", "paused")
    assert "MB free in" in paused["pause_reason"]
    waiting = cluster.api.submit("echo later")
    [reason] = cluster.api.get(f"tasks/{waiting}/why")["workers"]
    assert "MB free in" in reason["reason"]
    gate.touch()
    [task] = cluster.wait_ended(running)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "over\n", 1)
    assert cluster.api.task(waiting)["status"] == "queued"
    assert worker.is_running

    disk.make_room()
    [task] = cluster.wait_ended(waiting)
    assert (task["status"], task["stdout"]) == ("completed", "later\n")
    assert wait_worker(cluster, "small", "connected")["pause_reason"] == ""
    events = [row[0] for row in cluster.rows("SELECT event_type FROM audit_log WHERE event_type LIKE '%paused'")]
    assert events == ["worker_paused", "worker_unpaused"]


def test_an_outcome_that_finds_no_room_is_delivered_all_the_same(
    cluster: Cluster, disk: SmallDisk, tmp_path: Path
) -> None:
    """No dispatcher and a full disk at once: the outcome waits in memory, and counts once when one is back."""
    gate = tmp_path / "gate"
    worker = cluster.start_worker("small", "--state-dir", str(disk.folder / "state"), "--disk-reserve-mb", "0", slots=2)
    cluster.wait_connected("small")
    running = cluster.api.submit(GATED.format(gate=gate))
    cluster.wait_status(running, "running")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    disk.fill()
    gate.touch()
    wait_until(lambda: "cannot be written" in worker.stderr, "the worker notices", describe=cluster.describe)

    cluster.start_dispatcher()
    [task] = cluster.wait_ended(running)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "over\n", 1)
    # Delivered, it needs no room any more: new work is taken, and a command that needs none runs.
    wait_worker(cluster, "small", "connected")
    assert worker.stderr.count("No new tasks for now") == 1


def test_a_worker_starts_on_a_full_disk_with_what_it_has_spooled(
    new_cluster: Callable[..., Cluster], disk: SmallDisk, tmp_path: Path
) -> None:
    """kill -9 while an outcome is spooled and the disk full: the next start delivers it and runs nothing again."""
    cluster = new_cluster()
    cluster.start_dispatcher()
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    state = disk.folder / "state"
    flags = ("--state-dir", str(state), "--disk-reserve-mb", "4")
    worker = cluster.start_worker("small", *flags, slots=1)
    cluster.wait_connected("small")
    running = cluster.api.submit(f"{GATED.format(gate=gate)}; echo x >> {marks}")
    cluster.wait_status(running, "running")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    gate.touch()
    wait_until(lambda: list((state / "spool").glob("*.outcome")), "it is spooled", describe=cluster.describe)
    disk.fill()
    worker.kill()
    cluster.start_dispatcher()
    cluster.start_worker("small", *flags, slots=1)
    [task] = cluster.wait_ended(running)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "over\n", 1)
    assert marks.read_text() == "x\n"
    wait_until(lambda: not list((state / "spool").iterdir()), "the spool is empty", describe=cluster.describe)
    disk.make_room()
    wait_worker(cluster, "small", "connected")
