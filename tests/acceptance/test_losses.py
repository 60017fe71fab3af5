"""Machines die: whatever ends without saying so costs no task its outcome and no command its retries."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dispatcher.core.flapping import SAME_FAILURE_S
from tests.support.cluster import Cluster
from tests.support.open_folder import open_file
from tests.support.programs import new_mark, processes_with, sleepers, wake
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")


def wait_asleep(cluster: Cluster, *marks: str) -> None:
    """Wait until the commands of these marks have come to their `sleep`."""
    wait_until(lambda: all(map(sleepers, marks)), "the commands run", describe=cluster.describe)


def wait_gone(cluster: Cluster, mark: str) -> None:
    """Wait until nothing of a command is left."""
    wait_until(lambda: not processes_with(mark), "the command is gone", describe=cluster.describe)


def test_a_killed_workers_task_finishes_elsewhere(cluster: Cluster) -> None:
    """kill -9 of a worker mid-task: its processes die, the task runs again on another, charged as a loss."""
    mark = new_mark()
    victim = cluster.start_worker("victim", slots=1)
    cluster.wait_connected("victim")
    task_id = cluster.api.submit(f"[ $OCTASKLY_ATTEMPT -gt 1 ] || sleep {mark}; echo run $OCTASKLY_ATTEMPT")
    wait_asleep(cluster, mark)
    cluster.start_worker("rescuer", slots=1)
    cluster.wait_connected("rescuer")

    victim.kill()

    wait_gone(cluster, mark)
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"]) == ("completed", "run 2\n")
    assert task["worker_id"] == cluster.api.worker_named("rescuer")["id"]
    assert task["attempt"] == 2
    assert cluster.rows("SELECT failures, losses FROM tasks") == [(0, 1)]
    assert [row[0] for row in cluster.rows("SELECT outcome FROM results ORDER BY attempt")] == ["lost", "completed"]


def test_a_killed_worker_that_comes_back_takes_its_task_again(cluster: Cluster) -> None:
    """A new boot id says that the old attempts are gone: the task is queued at once and runs again."""
    mark = new_mark()
    worker = cluster.start_worker("phoenix", slots=1)
    cluster.wait_connected("phoenix")
    task_id = cluster.api.submit(f"[ $OCTASKLY_ATTEMPT -gt 1 ] || sleep {mark}")
    wait_asleep(cluster, mark)
    worker.kill()
    cluster.start_worker("phoenix", slots=1)
    [task] = cluster.wait_ended(task_id)
    assert task["status"] == "completed"
    assert cluster.rows("SELECT failures, losses FROM tasks") == [(0, 1)]
    assert len(cluster.api.workers()) == 1
    assert processes_with(mark) == []


@pytest.mark.slow
def test_a_task_that_takes_five_workers_down_is_given_up(cluster: Cluster) -> None:
    """It fails with worker_lost after five executions; the worker it kept killing is suspended with the reason."""
    mark = new_mark()
    poison = cluster.api.submit(f"sleep {mark}; echo over")
    for _ in range(5):
        wait_gone(cluster, mark)
        worker = cluster.start_worker("cursed", slots=1)
        wait_asleep(cluster, mark)
        began = time.monotonic()
        wait_until(lambda began=began: time.monotonic() > began + SAME_FAILURE_S, "it is no part of the last failure")
        worker.kill()
    worker = cluster.start_worker("cursed", slots=1)
    [task] = cluster.wait_ended(poison)
    assert (task["status"], task["failure_reason"], task["attempt"]) == ("failed", "worker_lost", 5)
    assert processes_with(mark) == []

    def suspended() -> dict | None:
        cursed = cluster.api.worker_named("cursed")
        return cursed if cursed["admission"] == "suspended" else None

    cursed = wait_until(suspended, "the worker is suspended", describe=cluster.describe)
    assert "5 failures within 10 minutes" in cursed["admission_reason"]
    waiting = cluster.api.submit("echo later")
    [reason] = cluster.api.get(f"tasks/{waiting}/why")["workers"]
    assert "suspended" in reason["reason"]
    cluster.api.post(f"workers/{cursed['id']}/approve")
    [task] = cluster.wait_ended(waiting)
    assert task["stdout"] == "later\n"
    assert worker.is_running


def check_restart_loses_nothing(cluster: Cluster, *, politely: bool) -> None:
    """End the dispatcher while two commands run and six wait, start it again, and see each run exactly once."""
    marks = [new_mark(), new_mark()]
    cluster.start_worker("steady", slots=2)
    cluster.wait_connected("steady")
    commands = [{"command": f"sleep {mark}; echo over"} for mark in marks]
    running = [task["id"] for task in cluster.api.post("tasks", commands)]
    wait_asleep(cluster, *marks)
    pids = [processes_with(mark) for mark in marks]
    for task_id in running:
        cluster.wait_status(task_id, "running")
    queued = [task["id"] for task in cluster.api.post("tasks", [{"command": "echo later"}] * 6)]

    assert cluster.dispatcher is not None
    if politely:
        assert cluster.dispatcher.stop() == 0
    else:
        cluster.dispatcher.kill()
    cluster.start_dispatcher()
    cluster.wait_connected("steady")
    assert {cluster.api.task(task_id)["status"] for task_id in running} == {"running"}
    assert [processes_with(mark) for mark in marks] == pids
    for mark in marks:
        wake(mark)

    tasks = cluster.wait_ended(*running, *queued)
    assert {task["status"] for task in tasks} == {"completed"}
    assert [task["stdout"] for task in tasks] == ["over\n"] * 2 + ["later\n"] * 6
    # One that was run again would sleep.
    assert not any(map(processes_with, marks))
    assert [task["attempt"] for task in tasks[:2]] == [1, 1]
    assert cluster.rows("SELECT max(losses), max(failures) FROM tasks") == [(0, 0)]


def test_dispatcher_restarted_politely_adopts_what_runs(cluster: Cluster) -> None:
    """SIGTERM and a new start: running commands go on unharmed, queued ones follow, nothing runs twice."""
    check_restart_loses_nothing(cluster, politely=True)


def test_dispatcher_killed_and_restarted_adopts_what_runs(cluster: Cluster) -> None:
    """The same after kill -9."""
    check_restart_loses_nothing(cluster, politely=False)


def test_what_ends_while_the_dispatcher_is_down_is_reported_after(cluster: Cluster) -> None:
    """An outcome waits in the worker's spool until a dispatcher acknowledges it, and counts once."""
    mark = new_mark()
    cluster.start_worker("steady", slots=1)
    cluster.wait_connected("steady")
    task_id = cluster.api.submit(f"sleep {mark}; echo kept")
    cluster.wait_status(task_id, "running")
    wait_asleep(cluster, mark)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    wake(mark)
    wait_gone(cluster, mark)
    cluster.start_dispatcher()
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "kept\n", 1)
    assert processes_with(mark) == []


def test_a_damaged_spool_entry_is_a_loss_and_no_crash_loop(cluster: Cluster, open_folder: Path) -> None:
    """Of two outcomes on disk one is damaged while the worker is down: that one runs again, the other does not."""
    mark, runs = new_mark(), open_file(open_folder, "runs")
    # Below strict a command can leave us word of itself on the host.
    worker = cluster.start_worker("steady", "--min-sandbox", "basic", slots=2)
    cluster.wait_connected("steady")
    command = f"[ $OCTASKLY_ATTEMPT -gt 1 ] || sleep {mark}; echo $OCTASKLY_TASK_ID >> {runs}; echo kept"
    ids = [task["id"] for task in cluster.api.post("tasks", [{"command": command, "sandbox": "basic"}] * 2)]
    for task_id in ids:
        cluster.wait_status(task_id, "running")
    wait_until(lambda: len(sleepers(mark)) == 2, "both commands run", describe=cluster.describe)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    wake(mark)
    spool = cluster.state_dir("steady") / "spool"
    wait_until(lambda: len(list(spool.glob("*.outcome"))) == 2, "both are spooled", describe=cluster.describe)
    worker.kill()
    damaged = spool / f"{ids[0]}.1.outcome"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    cluster.start_dispatcher()
    cluster.start_worker("steady", "--min-sandbox", "basic", slots=2)
    tasks = cluster.wait_ended(*ids)
    assert [(task["status"], task["stdout"], task["attempt"]) for task in tasks] == [
        ("completed", "kept\n", 2),
        ("completed", "kept\n", 1),
    ]
    assert cluster.rows("SELECT losses FROM tasks ORDER BY id") == [(1,), (0,)]
    assert sorted(runs.read_text().split()) == sorted([*ids, ids[0]])
    wait_until(lambda: not list(spool.iterdir()), "the spool is empty", describe=cluster.describe)


def test_submitted_means_stored(cluster: Cluster) -> None:
    """A task whose 201 was read is there after kill -9 of the dispatcher the moment after."""
    ids = [task["id"] for task in cluster.api.post("tasks", [{"command": f"echo {n}"} for n in range(50)])]
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    cluster.start_dispatcher()
    cluster.start_worker("late", slots=4)
    tasks = cluster.wait_ended(*ids)
    assert [task["stdout"] for task in tasks] == [f"{n}\n" for n in range(50)]
