"""Commands that must end: by a cancel, by their time, by a failing exit; with everything they started."""

from __future__ import annotations

from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.programs import process_exists
from tests.support.wait import wait_until

FAMILY = "sleep 300 & echo $! >> {pids}; setsid sleep 300 & echo $! >> {pids}; echo $$ >> {pids}; echo begun; wait"
"""A shell with an ordinary child and one that left its process group and session."""


def family_pids(cluster: Cluster, path: Path) -> list[int]:
    """Return the ids of the three processes of FAMILY once all have written theirs."""

    def three() -> list[int] | None:
        pids = path.read_text().split() if path.exists() else []
        return [int(pid) for pid in pids] if len(pids) == 3 else None

    return wait_until(three, "the command and its children run", describe=cluster.describe)


def wait_gone(cluster: Cluster, pids: list[int]) -> None:
    """Wait until none of them runs."""
    wait_until(
        lambda: not [pid for pid in pids if process_exists(pid)], "every process is gone", describe=cluster.describe
    )


def test_cancel_kills_the_whole_process_tree(cluster: Cluster, tmp_path: Path) -> None:
    """A cancelled running command ends as cancelled, and nothing it started lives on."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit(FAMILY.format(pids=tmp_path / "pids"))
    pids = family_pids(cluster, tmp_path / "pids")
    cluster.wait_status(task_id, "running")
    cluster.api.post(f"tasks/{task_id}/cancel")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"]) == ("cancelled", "cancelled")
    assert task["stdout"] == "begun\n"
    wait_gone(cluster, pids)


def test_delete_is_cancel_and_a_queued_task_is_cancelled_at_once(cluster: Cluster) -> None:
    """Without a worker nothing has to be killed: the answer already shows the end."""
    task_id = cluster.api.submit("echo never")
    answer = cluster.api.http.delete(f"/api/v1/tasks/{task_id}")
    assert answer.is_success, answer.text
    assert cluster.api.task(task_id)["status"] == "cancelled"
    again = cluster.api.http.post(f"/api/v1/tasks/{task_id}/cancel")
    assert again.status_code == 409
    assert again.headers["content-type"].startswith("application/problem+json")
    assert cluster.api.attempts(task_id) == []


def test_cancel_of_a_running_command_survives_a_dispatcher_restart(cluster: Cluster, tmp_path: Path) -> None:
    """A wish that was answered is kept: the command dies even when the dispatcher was killed in between."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit(FAMILY.format(pids=tmp_path / "pids"))
    pids = family_pids(cluster, tmp_path / "pids")
    cluster.wait_status(task_id, "running")
    cluster.api.post(f"tasks/{task_id}/cancel")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    cluster.start_dispatcher()
    [task] = cluster.wait_ended(task_id)
    assert task["status"] == "cancelled"
    wait_gone(cluster, pids)


def test_a_command_over_its_time_fails_with_its_tree(cluster: Cluster, tmp_path: Path) -> None:
    """The time-out ends command and children and keeps what was written until then."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit(FAMILY.format(pids=tmp_path / "pids"), timeout=1)
    pids = family_pids(cluster, tmp_path / "pids")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"]) == ("failed", "timeout")
    assert task["stdout"] == "begun\n"
    assert 900 <= task["duration_ms"] < 9000
    wait_gone(cluster, pids)


def test_a_command_that_ignores_term_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """TERM is asked for first; five seconds later KILL is not a question."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit("trap '' TERM; echo deaf; while :; do sleep 0.1; done", timeout=1)
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"], task["stdout"]) == ("failed", "timeout", "deaf\n")
    assert 5500 <= task["duration_ms"] < 15000


def test_a_command_killed_by_a_signal_says_so(cluster: Cluster) -> None:
    """Death by signal is its own reason, and the attempt names the signal."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit("kill -9 $$")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"]) == ("failed", "signal")
    assert cluster.rows("SELECT signal FROM results") == [(9,)]


def test_a_daemon_left_behind_does_not_outlive_its_task(cluster: Cluster, tmp_path: Path) -> None:
    """A command that ends well takes the processes it put into the background with it."""
    cluster.start_worker("alpha")
    pids = tmp_path / "pids"
    task_id = cluster.api.submit(f"setsid sleep 300 >/dev/null 2>&1 & echo $! > {pids}; echo ok")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"]) == ("completed", "ok\n")
    wait_gone(cluster, [int(pids.read_text())])
