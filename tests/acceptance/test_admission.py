"""Who may work: nobody before an operator's word, and nobody after it is taken back."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster
from tests.support.programs import new_mark, process_exists, sleepers, wake
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")


def join_pending(cluster: Cluster, name: str) -> str:
    """Start a worker on a token without approval; return its id once it is connected."""
    cluster.start_worker(name, slots=1, token=cluster.join_token(auto_approve=False))

    def seen() -> str | None:
        found = [worker for worker in cluster.api.workers() if worker["name"] == name and worker["is_connected"]]
        return found[0]["id"] if found else None

    return wait_until(seen, f"{name} enrolled and connected", describe=cluster.describe)


def test_a_pending_worker_gets_work_only_once_approved(cluster: Cluster) -> None:
    """A task waits and says why, until the approval over REST takes effect at once."""
    worker_id = join_pending(cluster, "newcomer")
    task_id = cluster.api.submit("echo in")
    why = str(cluster.api.get(f"tasks/{task_id}/why"))
    assert "newcomer" in why or worker_id in why
    assert cluster.api.task(task_id)["status"] == "queued"

    cluster.api.post(f"workers/{worker_id}/approve")

    [task] = cluster.wait_ended(task_id, timeout_s=5)
    assert (task["status"], task["worker_id"]) == ("completed", worker_id)


def test_a_suspended_worker_takes_nothing_until_approved_again(cluster: Cluster) -> None:
    """Suspending stops new work; approving brings the machine back without a new token."""
    cluster.start_worker("paused", slots=1)
    cluster.wait_connected("paused")
    worker_id = cluster.api.worker_named("paused")["id"]
    cluster.api.post(f"workers/{worker_id}/suspend")
    wait_until(
        lambda: cluster.api.worker_named("paused")["admission"] == "suspended", "suspended", describe=cluster.describe
    )
    task_id = cluster.api.submit("echo back")
    assert cluster.api.task(task_id)["status"] == "queued"
    cluster.api.post(f"workers/{worker_id}/approve")
    [task] = cluster.wait_ended(task_id)
    assert task["status"] == "completed"


def test_revoking_closes_the_link_and_fences_what_runs(cluster: Cluster) -> None:
    """A revoked worker is disconnected within a second, its task runs elsewhere, and it never gets in again."""
    cluster.start_worker("traitor", slots=1)
    cluster.wait_connected("traitor")
    worker_id = cluster.api.worker_named("traitor")["id"]
    task_id = cluster.api.submit("sleep 2; echo honest")
    cluster.wait_status(task_id, "running")

    cluster.api.post(f"workers/{worker_id}/revoke")

    wait_until(
        lambda: not cluster.api.worker_named("traitor")["is_connected"],
        "the revoked worker is disconnected",
        timeout_s=2,
        describe=cluster.describe,
    )
    cluster.start_worker("honest", slots=1)
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"]) == ("completed", "honest\n")
    assert task["worker_id"] == cluster.api.worker_named("honest")["id"]
    assert not cluster.api.worker_named("traitor")["is_connected"]
    assert cluster.rows("SELECT count(*) FROM audit_log WHERE event_type = 'worker_revoked'") == [(1,)]


def test_draining_over_rest_finishes_what_runs_and_takes_nothing_new(cluster: Cluster) -> None:
    """Drain lets the running command end; resume brings the worker back."""
    mark = new_mark()
    cluster.start_worker("tired", slots=1)
    cluster.wait_connected("tired")
    worker_id = cluster.api.worker_named("tired")["id"]
    first = cluster.api.submit(f"sleep {mark}; echo over")
    cluster.wait_status(first, "running")
    wait_until(lambda: sleepers(mark), "the command waits", describe=cluster.describe)
    cluster.api.post(f"workers/{worker_id}/drain")
    second = cluster.api.submit("echo after the rest")
    wake(mark)
    [task] = cluster.wait_ended(first)
    assert (task["status"], task["stdout"]) == ("completed", "over\n")
    assert cluster.api.task(second)["status"] == "queued"
    cluster.api.post(f"workers/{worker_id}/resume")
    [task] = cluster.wait_ended(second)
    assert task["status"] == "completed"


def test_a_used_join_token_is_worth_nothing(cluster: Cluster) -> None:
    """A one-use token joins one machine; a second one with it ends with a clear error and no row."""
    token = cluster.join_token()
    cluster.start_worker("first", token=token)
    cluster.wait_connected("first")
    second = cluster.start_worker("second", token=token)
    assert second.wait(20) == 1
    assert "Traceback" not in second.stderr
    assert [worker["name"] for worker in cluster.api.workers()] == ["first"]
    assert cluster.rows("SELECT count(*) FROM audit_log WHERE event_type = 'enrol_refused'") == [(1,)]


def test_a_mistyped_token_is_bad_usage(cluster: Cluster) -> None:
    """A token whose check sum is wrong never leaves the machine: exit code 2."""
    token = cluster.join_token()
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    worker = cluster.start_worker("typo", token=wrong)
    assert worker.wait(20) == 2


def test_a_token_of_another_cluster_never_reveals_its_secret(new_cluster) -> None:
    """The worker compares the CA digest in its token first: another cluster's dispatcher sees no secret."""
    ours, theirs = new_cluster(), new_cluster()
    ours.start_dispatcher()
    theirs.start_dispatcher()
    worker = ours.start_worker("lost", token=theirs.join_token())
    wait_until(
        lambda: not worker.is_running or "digest" in worker.stderr.lower() or "certificate" in worker.stderr.lower(),
        "the worker says that the dispatcher is not the token's",
        describe=ours.describe,
    )
    assert ours.api.workers() == []
    assert ours.rows("SELECT count(*) FROM audit_log WHERE event_type LIKE 'enrol%'") == [(0,)]


def test_a_joined_worker_needs_no_token_again(cluster: Cluster) -> None:
    """Key and certificate stay in the state folder, closed to others."""
    worker = cluster.start_worker("regular")
    cluster.wait_connected("regular")
    assert worker.stop() == 0
    state = cluster.state_dir("regular")
    assert state.stat().st_mode & 0o777 == 0o700
    assert not process_exists(worker.pid)
    cluster.start_worker("regular")
    cluster.wait_connected("regular")
    assert len(cluster.api.workers()) == 1
