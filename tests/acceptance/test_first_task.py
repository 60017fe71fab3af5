"""The first minutes of a user: a task goes in over HTTP, runs on a worker and is read back."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from octaskly_wire.vocabulary import Transport
from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.wait import wait_until


def test_hello_world_runs_and_is_read_back(cluster: Cluster, transport: Transport) -> None:
    """A submitted command completes with its exit code and exact output, and the tables show it."""
    cluster.start_worker("alpha")
    answer = cluster.api.post("tasks", {"command": "echo hello world", "timeout": 3600})
    assert answer["status"] == "queued"
    assert answer["timeout"] == 3600

    [task] = cluster.wait_ended(answer["id"])

    assert task["status"] == "completed"
    assert task["exit_code"] == 0
    assert task["stdout"] == "hello world\n"
    assert task["stderr"] == ""
    assert task["failure_reason"] is None
    assert task["duration_ms"] >= 0
    assert task["worker_id"] == cluster.api.worker_named("alpha")["id"]
    assert cluster.rows("SELECT transport FROM workers") == [(transport,)]
    assert task["created_at"].endswith("Z")
    assert task["created_at"] <= task["started_at"] <= task["completed_at"]
    assert cluster.rows("SELECT id, status, exit_code FROM tasks") == [(task["id"], "completed", 0)]
    [(outcome, exit_code, level)] = cluster.rows("SELECT outcome, exit_code, sandbox_level FROM results")
    assert (outcome, exit_code, level) == ("completed", 0, levels.usual())


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_sqlite3_shell_reads_the_tables_while_the_dispatcher_runs(cluster: Cluster) -> None:
    """The documented query works from outside, on a live database."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit("exit 3")
    cluster.wait_ended(task_id)
    query = "SELECT id,status,exit_code FROM tasks"
    shown = subprocess.run(["sqlite3", str(cluster.db_path), query], check=True, capture_output=True, text=True).stdout
    assert shown == f"{task_id}|failed|3\n"


@pytest.mark.usefixtures("transport")
def test_output_is_bytes_and_survives(cluster: Cluster) -> None:
    """Output that is no UTF-8 is shown with replacement characters in the task and kept as bytes beside it."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit(r"printf 'caf\351\n'; printf 'oops' >&2; exit 7")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["exit_code"], task["failure_reason"]) == ("failed", 7, "exit_code")
    assert task["stdout"] == "caf\N{REPLACEMENT CHARACTER}\n"
    assert task["stderr"] == "oops"
    assert cluster.rows("SELECT stdout, stderr FROM results") == [(b"caf\xe9\n", b"oops")]


@pytest.mark.usefixtures("transport")
def test_two_workers_share_the_tasks(cluster: Cluster) -> None:
    """With one slot each, two workers both take a part of many tasks."""
    cluster.start_worker("alpha", slots=1)
    cluster.start_worker("beta", slots=1)
    cluster.wait_connected("alpha", "beta")
    submitted = cluster.api.post("tasks", [{"command": "sleep 0.2; echo $$"} for _ in range(12)])
    tasks = cluster.wait_ended(*(task["id"] for task in submitted))
    assert {task["status"] for task in tasks} == {"completed"}
    names = {worker["id"]: worker["name"] for worker in cluster.api.workers()}
    shares = [names[task["worker_id"]] for task in tasks]
    assert min(shares.count("alpha"), shares.count("beta")) >= 3


def test_dispatcher_with_worker_needs_nothing_else(new_cluster) -> None:
    """What `make run` starts runs a task without any further step."""
    cluster = new_cluster()
    cluster.start_dispatcher("--with-worker")
    [task] = cluster.wait_ended(cluster.api.submit("echo $((6 * 7))"))
    assert (task["status"], task["stdout"]) == ("completed", "42\n")
    assert (cluster.db_path.parent / "local-worker").stat().st_mode & 0o777 == 0o700
    assert cluster.dispatcher is not None
    assert cluster.dispatcher.stop() == 0


def test_the_local_worker_runs_weaker_levels_when_told_so(new_cluster) -> None:
    """Without the variable such a task waits; with it the local worker runs what a task, or the site, chooses."""
    cluster = new_cluster(OCTASKLY_LOCAL_MIN_SANDBOX="", OCTASKLY_DEFAULT_SANDBOX="")
    dispatcher = cluster.start_dispatcher("--with-worker")
    weak = cluster.api.submit("echo weak", sandbox="none")
    [worker] = wait_until(cluster.api.workers, "the local worker has joined", describe=cluster.describe)
    cluster.wait_connected(worker["name"])
    assert cluster.api.task(weak)["status"] == "queued"
    assert dispatcher.stop() == 0

    cluster.environment |= {"OCTASKLY_LOCAL_MIN_SANDBOX": "none", "OCTASKLY_DEFAULT_SANDBOX": "basic"}
    dispatcher = cluster.start_dispatcher("--with-worker")
    cluster.wait_ended(weak, cluster.api.submit("echo usual"))
    assert sorted(cluster.rows("SELECT sandbox_level FROM results")) == [("basic",), ("none",)]
