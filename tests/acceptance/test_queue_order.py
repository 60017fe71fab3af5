"""What runs when: priority, then age; retries with a pause; and a reason for everything that waits."""

from __future__ import annotations

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")

MORE_THAN_ANY_MACHINE_MB = 1 << 24
MANY = 400
"""More than the engine holds in memory."""


def test_higher_priority_first_then_first_come(cluster: Cluster) -> None:
    """One slot takes the queue by priority, and equals in the order of their submission."""
    wanted = [("a", 0), ("b", -100), ("c", 100), ("d", 0), ("e", 5), ("f", 100)]
    ids = [cluster.api.submit("date +%s%N", name=name, priority=priority) for name, priority in wanted]
    cluster.start_worker("alpha", slots=1)
    tasks = sorted(cluster.wait_ended(*ids), key=lambda task: int(task["stdout"]))
    assert [task["name"] for task in tasks] == ["c", "f", "e", "a", "d", "b"]


def test_a_failing_command_is_tried_again_as_often_as_asked(cluster: Cluster) -> None:
    """max_retries counts the command's own failures; each attempt keeps its row."""
    cluster.start_worker("alpha")
    stubborn = cluster.api.submit("exit 9", max_retries=1)
    flaky = cluster.api.submit("[ $OCTASKLY_ATTEMPT -gt 1 ]", max_retries=3)
    first, second = cluster.wait_ended(stubborn, flaky)
    assert (first["status"], first["exit_code"], first["attempt"]) == ("failed", 9, 2)
    assert (second["status"], second["exit_code"], second["attempt"]) == ("completed", 0, 2)
    assert [attempt["exit_code"] for attempt in cluster.api.attempts(flaky)] == [1, 0]


def test_retry_on_wish_runs_an_ended_task_again(cluster: Cluster) -> None:
    """POST retry queues an ended task; its attempts go on counting. A task that has not ended is a 409."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit("echo $OCTASKLY_ATTEMPT")
    [task] = cluster.wait_ended(task_id)
    assert task["stdout"].strip() == "1"
    cluster.api.post(f"tasks/{task_id}/retry")
    [task] = cluster.wait_ended(task_id)
    assert (task["stdout"].strip(), task["attempt"]) == ("2", 2)
    waiting = cluster.api.submit("echo", limits={"memory_mb": MORE_THAN_ANY_MACHINE_MB})
    assert cluster.api.http.post(f"/api/v1/tasks/{waiting}/retry").status_code == 409


def test_a_level_nobody_offers_waits_and_says_why(cluster: Cluster) -> None:
    """A task is never run at another level: it stays queued, /why names worker and level, and the right one takes it."""
    cluster.start_worker("alpha", "--min-sandbox", "basic")
    cluster.wait_connected("alpha")
    none = cluster.api.submit("echo open", sandbox="none")
    usual = cluster.api.submit("echo plain")
    cluster.wait_ended(usual)
    assert cluster.api.task(none)["status"] == "queued"
    [reason] = cluster.api.get(f"tasks/{none}/why")["workers"]
    assert reason["name"] == "alpha"
    assert "none" in reason["reason"]
    assert "basic" in reason["reason"]
    cluster.start_worker("beta", "--min-sandbox", "none")
    [task] = cluster.wait_ended(none)
    assert (task["stdout"], task["worker_id"]) == ("open\n", cluster.api.worker_named("beta")["id"])
    ran_at = dict(cluster.rows("SELECT task_id, sandbox_level FROM results"))
    assert ran_at == {none: "none", usual: levels.usual()}


def test_hundreds_of_short_tasks_all_end_once(cluster: Cluster) -> None:
    """Nothing is lost, doubled or left behind in more work than the engine holds in memory, on two workers."""
    cluster.start_worker("alpha", slots=4)
    cluster.start_worker("beta", slots=4)
    cluster.wait_connected("alpha", "beta")
    cluster.api.post("tasks", [{"command": f"echo {n}"} for n in range(MANY)])
    done = "SELECT count(*) FROM tasks WHERE status = 'completed' AND failures = 0 AND losses = 0"
    # On a machine that stands still for a moment, some that were given ahead are handed back unrun.
    ran = "SELECT count(*), count(DISTINCT task_id) FROM results WHERE outcome <> 'rejected'"

    wait_until(lambda: cluster.rows(done) == [(MANY,)], "all completed", timeout_s=90, describe=cluster.describe)
    assert cluster.rows(ran) == [(MANY, MANY)]
    assert cluster.rows("SELECT count(DISTINCT stdout) FROM tasks") == [(MANY,)]
    stats = cluster.api.get("stats")
    assert stats["tasks"]["completed"] == MANY
    assert stats["workers"]["total"] == 2
