"""How programs end: the first signal drains, the second does not wait; both leave nothing behind."""

from __future__ import annotations

import signal
import threading

import httpx
import pytest

from tests.support.cluster import Cluster
from tests.support.programs import free_port, new_mark, process_exists, processes_with, sleepers, wake
from tests.support.wait import wait_until


def wait_asleep(cluster: Cluster, mark: str) -> None:
    """Wait until a command has come to its `sleep`."""
    wait_until(lambda: sleepers(mark), "the command runs", describe=cluster.describe)


@pytest.mark.usefixtures("transport")
def test_a_worker_told_to_stop_finishes_what_runs(cluster: Cluster) -> None:
    """SIGTERM: no new task, the running one ends and is recorded, exit code 0."""
    mark = new_mark()
    worker = cluster.start_worker("alpha", slots=1)
    cluster.wait_connected("alpha")
    running = cluster.api.submit(f"sleep {mark}; echo finished")
    cluster.wait_status(running, "running")
    wait_asleep(cluster, mark)
    worker.ask_to_stop()
    wait_until(lambda: "Draining" in worker.stderr, "the worker drains", describe=cluster.describe)
    waiting = cluster.api.submit("echo not here")
    wake(mark)
    assert worker.wait() == 0
    task = cluster.api.task(running)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "finished\n", 1)
    assert cluster.api.task(waiting)["status"] == "queued"
    assert cluster.rows("SELECT max(losses) FROM tasks") == [(0,)]


@pytest.mark.usefixtures("transport")
def test_a_second_signal_ends_a_worker_at_once(cluster: Cluster) -> None:
    """Two SIGTERMs: the command is killed, not waited for, and the task is queued again."""
    mark = new_mark()
    worker = cluster.start_worker("alpha", slots=1)
    cluster.wait_connected("alpha")
    task_id = cluster.api.submit(f"sleep {mark}; echo over")
    wait_asleep(cluster, mark)
    worker.ask_to_stop()
    wait_until(lambda: "Draining" in worker.stderr, "the worker drains", describe=cluster.describe)
    assert worker.is_running
    worker.ask_to_stop()
    worker.wait(10)
    wait_until(lambda: not processes_with(mark), "the command is gone", describe=cluster.describe)
    cluster.wait_status(task_id, "queued")


def test_the_dispatcher_ends_well_on_both_signals(new_cluster) -> None:
    """SIGTERM and SIGINT each end an idle dispatcher with exit code 0, quickly, and free its ports."""
    cluster = new_cluster()
    for number in (signal.SIGTERM, signal.SIGINT):
        dispatcher = cluster.start_dispatcher()
        dispatcher.process.send_signal(number)
        assert dispatcher.wait(10) == 0


def test_the_local_worker_ends_with_its_dispatcher(new_cluster) -> None:
    """Two signals end the dispatcher, its local worker and what runs there."""
    cluster = new_cluster()
    cluster.start_dispatcher("--with-worker")
    mark = new_mark()
    cluster.api.submit(f"sleep {mark}; echo over")
    wait_asleep(cluster, mark)
    assert cluster.dispatcher is not None
    cluster.dispatcher.ask_to_stop()
    wait_until(lambda: "Stopping" in cluster.dispatcher.stderr, "it drains", describe=cluster.describe)
    cluster.dispatcher.ask_to_stop()
    cluster.dispatcher.wait(30)
    wait_until(lambda: not processes_with(mark), "the command is gone", describe=cluster.describe)


def test_a_local_worker_that_outlived_its_dispatcher_is_taken_over(new_cluster) -> None:
    """kill -9 of `--with-worker`: what runs there goes on under the next one, which ends the worker, too."""
    mark = new_mark()
    cluster = new_cluster()
    cluster.start_dispatcher("--with-worker")
    running = cluster.api.submit(f"sleep {mark}; echo over")
    cluster.wait_status(running, "running")
    wait_asleep(cluster, mark)
    pids = processes_with(mark)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    again = cluster.start_dispatcher("--with-worker")
    wait_until(lambda: "is taken over" in again.stderr, "the worker is found", describe=cluster.describe)
    wait_until(lambda: cluster.api.workers()[0]["is_connected"], "it is back", describe=cluster.describe)
    assert processes_with(mark) == pids
    wake(mark)
    [task] = cluster.wait_ended(running)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "over\n", 1)
    assert processes_with(mark) == []
    assert again.stop() == 0
    worker_pid = int((cluster.db_path.parent / "local-worker" / "lock").read_text())
    assert not process_exists(worker_pid)
    assert "in use by another worker" not in again.stderr


def test_a_local_worker_of_another_port_makes_room_for_one_of_this(new_cluster) -> None:
    """It could never connect: its task is a loss, and the new worker runs it."""
    cluster = new_cluster()
    first = cluster.start_dispatcher("--with-worker")
    [worker] = wait_until(cluster.api.workers, "it has joined", describe=cluster.describe)
    first.kill()
    cluster.port = free_port()
    cluster.start_dispatcher("--with-worker")
    cluster.wait_connected(worker["name"])
    task_id = cluster.api.submit("echo here")
    [task] = cluster.wait_ended(task_id)
    assert task["stdout"] == "here\n"


def test_a_dispatcher_under_requests_ends_at_once_and_keeps_what_it_acknowledged(cluster: Cluster) -> None:
    """SIGTERM while clients post without a pause: it ends in order, and every task of a 201 is there afterwards."""
    acknowledged: list[str] = []
    is_over = threading.Event()
    headers = {"Authorization": cluster.api.http.headers["Authorization"]}

    def post() -> None:
        with httpx.Client(base_url=cluster.url, headers=headers, timeout=20, trust_env=False) as client:
            while not is_over.is_set():
                try:
                    answer = client.post("/api/v1/tasks", json=[{"command": "true"}] * 20)
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.extend(task["id"] for task in answer.json())

    clients = [threading.Thread(target=post) for _ in range(6)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(acknowledged) > 200, "requests are answered", describe=cluster.describe)
        assert cluster.dispatcher is not None
        assert cluster.dispatcher.stop(timeout_s=8) == 0
    finally:
        is_over.set()
        for client in clients:
            client.join()
    stored = {row[0] for row in cluster.rows("SELECT id FROM tasks")}
    assert set(acknowledged) <= stored
