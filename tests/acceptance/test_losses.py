"""Machines die: whatever ends without saying so costs no task its outcome and no command its retries."""

from __future__ import annotations

import time
from pathlib import Path

from dispatcher.core.flapping import SAME_FAILURE_S
from tests.support.cluster import Cluster
from tests.support.programs import process_exists
from tests.support.wait import wait_until


def lines_of(path: Path) -> list[str]:
    """Return what commands have appended so far."""
    return path.read_text().splitlines() if path.exists() else []


def test_a_killed_workers_task_finishes_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """kill -9 of a worker mid-task: its processes die, the task runs again on another, charged as a loss."""
    marks = tmp_path / "marks"
    victim = cluster.start_worker("victim", slots=1)
    cluster.wait_connected("victim")
    task_id = cluster.api.submit(f'echo $$ >> {marks}; [ "$(wc -l < {marks})" -gt 1 ] || sleep 300; echo done')
    wait_until(lambda: lines_of(marks), "the command runs", describe=cluster.describe)
    cluster.start_worker("rescuer", slots=1)
    cluster.wait_connected("rescuer")

    victim.kill()

    [first_pid] = lines_of(marks)[:1]
    wait_until(lambda: not process_exists(int(first_pid)), "the victim's command is gone", describe=cluster.describe)
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"]) == ("completed", "done\n")
    assert task["worker_id"] == cluster.api.worker_named("rescuer")["id"]
    assert task["attempt"] == 2
    assert cluster.rows("SELECT failures, losses FROM tasks") == [(0, 1)]
    assert [row[0] for row in cluster.rows("SELECT outcome FROM results ORDER BY attempt")] == ["lost", "completed"]


def test_a_killed_worker_that_comes_back_takes_its_task_again(cluster: Cluster, tmp_path: Path) -> None:
    """A new boot id says that the old attempts are gone: the task is queued at once and runs again."""
    marks = tmp_path / "marks"
    worker = cluster.start_worker("phoenix", slots=1)
    cluster.wait_connected("phoenix")
    task_id = cluster.api.submit(f'echo x >> {marks}; [ "$(wc -l < {marks})" -gt 1 ] || sleep 300')
    wait_until(lambda: lines_of(marks), "the command runs", describe=cluster.describe)
    worker.kill()
    cluster.start_worker("phoenix", slots=1)
    [task] = cluster.wait_ended(task_id)
    assert task["status"] == "completed"
    assert cluster.rows("SELECT failures, losses FROM tasks") == [(0, 1)]
    assert len(cluster.api.workers()) == 1


def test_a_task_that_takes_five_workers_down_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    """It fails with worker_lost after five executions; the worker it kept killing is suspended with the reason."""
    marks = tmp_path / "marks"
    poison = cluster.api.submit(f"echo x >> {marks}; sleep 300")
    for life in range(1, 6):
        worker = cluster.start_worker("cursed", slots=1)
        wait_until(lambda life=life: len(lines_of(marks)) == life, f"life {life}", describe=cluster.describe)
        began = time.monotonic()
        wait_until(lambda began=began: time.monotonic() > began + SAME_FAILURE_S, "it is no part of the last failure")
        worker.kill()
    worker = cluster.start_worker("cursed", slots=1)
    [task] = cluster.wait_ended(poison)
    assert (task["status"], task["failure_reason"], task["attempt"]) == ("failed", "worker_lost", 5)
    assert len(lines_of(marks)) == 5

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


def check_restart_loses_nothing(cluster: Cluster, tmp_path: Path, *, politely: bool) -> None:
    """End the dispatcher while two commands run and six wait, start it again, and see each run exactly once."""
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    cluster.start_worker("steady", slots=2)
    cluster.wait_connected("steady")
    command = f"echo started >> {marks}; while [ ! -e {gate} ]; do sleep 0.05; done; echo over"
    running = [task["id"] for task in cluster.api.post("tasks", [{"command": command}] * 2)]
    wait_until(lambda: len(lines_of(marks)) == 2, "two commands run", describe=cluster.describe)
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
    gate.touch()

    tasks = cluster.wait_ended(*running, *queued)
    assert {task["status"] for task in tasks} == {"completed"}
    assert [task["stdout"] for task in tasks] == ["over\n"] * 2 + ["later\n"] * 6
    assert lines_of(marks) == ["started"] * 2
    assert [task["attempt"] for task in tasks[:2]] == [1, 1]
    assert cluster.rows("SELECT max(losses), max(failures) FROM tasks") == [(0, 0)]


def test_dispatcher_restarted_politely_adopts_what_runs(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM and a new start: running commands go on unharmed, queued ones follow, nothing runs twice."""
    check_restart_loses_nothing(cluster, tmp_path, politely=True)


def test_dispatcher_killed_and_restarted_adopts_what_runs(cluster: Cluster, tmp_path: Path) -> None:
    """The same after kill -9."""
    check_restart_loses_nothing(cluster, tmp_path, politely=False)


def test_what_ends_while_the_dispatcher_is_down_is_reported_after(cluster: Cluster, tmp_path: Path) -> None:
    """An outcome waits in the worker's spool until a dispatcher acknowledges it, and counts once."""
    marks = tmp_path / "marks"
    cluster.start_worker("steady", slots=1)
    cluster.wait_connected("steady")
    gate = tmp_path / "gate"
    task_id = cluster.api.submit(f"while [ ! -e {gate} ]; do sleep 0.05; done; echo x >> {marks}; echo kept")
    cluster.wait_status(task_id, "running")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    gate.touch()
    wait_until(lambda: lines_of(marks), "the command ended without a dispatcher", describe=cluster.describe)
    cluster.start_dispatcher()
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "kept\n", 1)
    assert lines_of(marks) == ["x"]


def test_a_damaged_spool_entry_is_a_loss_and_no_crash_loop(cluster: Cluster, tmp_path: Path) -> None:
    """Of two outcomes on disk one is damaged while the worker is down: that one runs again, the other does not."""
    gate = tmp_path / "gate"
    worker = cluster.start_worker("steady", slots=2)
    cluster.wait_connected("steady")
    command = f"while [ ! -e {gate} ]; do sleep 0.05; done; echo $OCTASKLY_TASK_ID >> {tmp_path}/marks; echo kept"
    ids = [task["id"] for task in cluster.api.post("tasks", [{"command": command}] * 2)]
    for task_id in ids:
        cluster.wait_status(task_id, "running")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    gate.touch()
    spool = cluster.state_dir("steady") / "spool"
    wait_until(lambda: len(list(spool.glob("*.outcome"))) == 2, "both are spooled", describe=cluster.describe)
    worker.kill()
    damaged = spool / f"{ids[0]}.1.outcome"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    cluster.start_dispatcher()
    cluster.start_worker("steady", slots=2)
    tasks = cluster.wait_ended(*ids)
    assert [(task["status"], task["stdout"], task["attempt"]) for task in tasks] == [
        ("completed", "kept\n", 2),
        ("completed", "kept\n", 1),
    ]
    assert cluster.rows("SELECT losses FROM tasks ORDER BY id") == [(1,), (0,)]
    assert sorted(lines_of(tmp_path / "marks")) == sorted([*ids, ids[0]])
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
