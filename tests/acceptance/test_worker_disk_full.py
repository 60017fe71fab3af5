"""The disk of a worker is full: it takes nothing new and says so, loses no outcome, and room alone mends it."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster
from tests.support.programs import Program, new_mark, processes_with, sleepers, wake
from tests.support.small_disk import SmallDisk
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")


class SmallWorker:
    """A worker whose state lies on the small disk, and a command there that waits for a word."""

    def __init__(self, cluster: Cluster, disk: SmallDisk, *, reserve_mb: int) -> None:
        self.state = disk.folder / "state"
        self._mark = new_mark()
        self._cluster = cluster
        self._flags = ("--state-dir", str(self.state), "--disk-reserve-mb", str(reserve_mb))
        self.program = self.start()
        cluster.wait_connected("small")
        self.running = cluster.api.submit(f"sleep {self._mark}; echo over")
        cluster.wait_status(self.running, "running")
        wait_until(lambda: sleepers(self._mark), "the command waits", describe=cluster.describe)

    def start(self) -> Program:
        """Start it, or start it again."""
        self.program = self._cluster.start_worker("small", *self._flags, slots=2)
        return self.program

    def let_go(self) -> None:
        """Let the command end."""
        assert wake(self._mark) == 1

    def check_it_ran_once(self) -> None:
        """The command is completed at its first attempt and ran once: a second time it would sleep again."""
        [task] = self._cluster.wait_ended(self.running)
        assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "over\n", 1)
        assert processes_with(self._mark) == []


def wait_worker(cluster: Cluster, name: str, status: str) -> dict:
    """Return the worker once REST shows this status."""

    def reached() -> dict | None:
        worker = cluster.api.worker_named(name)
        return worker if worker["status"] == status else None

    return wait_until(reached, f"{name} is {status}", describe=cluster.describe)


def test_a_full_worker_takes_nothing_new_and_recovers_by_itself(cluster: Cluster, disk: SmallDisk) -> None:
    """What runs goes on and is recorded; what waits says why; with room again it is taken without an operator."""
    small = SmallWorker(cluster, disk, reserve_mb=4)
    disk.fill()
    paused = wait_worker(cluster, "small", "paused")
    assert "MB free in" in paused["pause_reason"]
    waiting = cluster.api.submit("echo later")
    [reason] = cluster.api.get(f"tasks/{waiting}/why")["workers"]
    assert "MB free in" in reason["reason"]
    small.let_go()
    small.check_it_ran_once()
    assert cluster.api.task(waiting)["status"] == "queued"
    assert small.program.is_running

    disk.make_room()
    [task] = cluster.wait_ended(waiting)
    assert (task["status"], task["stdout"]) == ("completed", "later\n")
    assert wait_worker(cluster, "small", "connected")["pause_reason"] == ""
    events = [row[0] for row in cluster.rows("SELECT event_type FROM audit_log WHERE event_type LIKE '%paused'")]
    assert events == ["worker_paused", "worker_unpaused"]


def test_an_outcome_that_finds_no_room_is_delivered_all_the_same(cluster: Cluster, disk: SmallDisk) -> None:
    """No dispatcher and a full disk at once: the outcome waits in memory, and counts once when one is back."""
    small = SmallWorker(cluster, disk, reserve_mb=0)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    disk.fill()
    small.let_go()
    wait_until(lambda: "cannot be written" in small.program.stderr, "it notices", describe=cluster.describe)

    cluster.start_dispatcher()
    small.check_it_ran_once()
    # Delivered, it needs no room any more: new work is taken, and a command that needs none runs.
    wait_worker(cluster, "small", "connected")
    assert small.program.stderr.count("No new tasks for now") == 1


def test_a_worker_starts_on_a_full_disk_with_what_it_has_spooled(cluster: Cluster, disk: SmallDisk) -> None:
    """kill -9 while an outcome is spooled and the disk full: the next start delivers it and runs nothing again."""
    small = SmallWorker(cluster, disk, reserve_mb=4)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    small.let_go()
    spool = small.state / "spool"
    wait_until(lambda: list(spool.glob("*.outcome")), "it is spooled", describe=cluster.describe)
    disk.fill()
    small.program.kill()
    cluster.start_dispatcher()
    small.start()
    small.check_it_ran_once()
    wait_until(lambda: not list(spool.iterdir()), "the spool is empty", describe=cluster.describe)
    disk.make_room()
    wait_worker(cluster, "small", "connected")
