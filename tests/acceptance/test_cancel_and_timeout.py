"""Commands that must end: by a cancel, by their time, by a failing exit; with everything they started."""

from __future__ import annotations

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.programs import new_mark, processes_with
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")

FAMILY = "sleep {mark} & setsid sleep {mark} & echo begun; wait"
"""A shell with an ordinary child and one that left its process group and session; all three carry the mark."""


def wait_family(cluster: Cluster, mark: str) -> None:
    """Wait until the three processes of FAMILY run."""
    wait_until(lambda: len(processes_with(mark)) == 3, "the command and its children run", describe=cluster.describe)


def wait_gone(cluster: Cluster, mark: str) -> None:
    """Wait until none of them runs."""
    wait_until(lambda: not processes_with(mark), "every process is gone", describe=cluster.describe)


@pytest.mark.parametrize("level", ["basic", "strict", "very_strict"])
def test_cancel_kills_the_whole_process_tree(cluster: Cluster, level: str) -> None:
    """A cancelled running command ends as cancelled, and nothing it started lives on, whatever holds it."""
    levels.need(levels.SandboxLevel(level))
    cluster.start_worker("alpha", "--min-sandbox", "basic")
    mark = new_mark()
    task_id = cluster.api.submit(FAMILY.format(mark=mark), sandbox=level)
    wait_family(cluster, mark)
    cluster.wait_status(task_id, "running")
    cluster.api.post(f"tasks/{task_id}/cancel")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"]) == ("cancelled", "cancelled")
    assert task["stdout"] == "begun\n"
    wait_gone(cluster, mark)


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


def test_cancel_of_a_running_command_survives_a_dispatcher_restart(cluster: Cluster) -> None:
    """A wish that was answered is kept: the command dies even when the dispatcher was killed in between."""
    cluster.start_worker("alpha")
    mark = new_mark()
    task_id = cluster.api.submit(FAMILY.format(mark=mark))
    wait_family(cluster, mark)
    cluster.wait_status(task_id, "running")
    cluster.api.post(f"tasks/{task_id}/cancel")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    cluster.start_dispatcher()
    [task] = cluster.wait_ended(task_id)
    assert task["status"] == "cancelled"
    wait_gone(cluster, mark)


def test_a_command_over_its_time_fails_with_its_tree(cluster: Cluster) -> None:
    """The time-out ends command and children and keeps what was written until then."""
    cluster.start_worker("alpha")
    mark = new_mark()
    task_id = cluster.api.submit(FAMILY.format(mark=mark), timeout=1)
    wait_family(cluster, mark)
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["failure_reason"]) == ("failed", "timeout")
    assert task["stdout"] == "begun\n"
    assert 900 <= task["duration_ms"] < 9000
    wait_gone(cluster, mark)


def test_a_command_that_ignores_term_is_killed(cluster: Cluster) -> None:
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


def test_a_daemon_left_behind_does_not_outlive_its_task(cluster: Cluster) -> None:
    """A command that ends well takes the processes it put into the background with it."""
    cluster.start_worker("alpha")
    mark = new_mark()
    daemon = f"setsid sh -c 'echo $$ >up; exec sleep {mark}' >/dev/null 2>&1 &"
    task_id = cluster.api.submit(f"{daemon} while [ ! -s up ]; do sleep 0.02; done; echo ok")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"]) == ("completed", "ok\n")
    wait_gone(cluster, mark)
