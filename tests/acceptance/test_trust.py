"""Trust that changes while work goes on: revocations, renewals, another CA, another secret key."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.wait import wait_until
from tests.support.web_session import signed_in

REVOKE = "from workers_app.models import Worker; from workers_app import services; "
REVOKE += "services.revoke(Worker.objects.get(name='traitor'), None)"


def moment(cluster: Cluster, event_type: str) -> datetime:
    """Return when the last such event was recorded."""
    [[text]] = cluster.rows("SELECT max(timestamp) FROM audit_log WHERE event_type = ?", event_type)
    return datetime.fromisoformat(text)


@pytest.mark.usefixtures("transport")
def test_a_revocation_by_another_process_holds_within_a_second(cluster: Cluster) -> None:
    """The link is closed, the task runs elsewhere within five seconds, and no outcome of the revoked worker counts."""
    cluster.start_worker("traitor", slots=1)
    cluster.wait_connected("traitor")
    task_id = cluster.api.submit("[ $OCTASKLY_ATTEMPT != 1 ] || sleep 60; echo done")
    cluster.wait_status(task_id, "running")
    cluster.start_worker("honest", slots=1)
    cluster.wait_connected("honest")
    done = cluster.manage("shell", "-c", REVOKE)
    assert done.returncode == 0, done.stderr
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "done\n", 2)
    assert task["worker_id"] == cluster.api.worker_named("honest")["id"]
    revoked_at = moment(cluster, "worker_revoked")
    assert 0 <= (moment(cluster, "worker_disconnected") - revoked_at).total_seconds() < 1
    assert 0 <= (moment(cluster, "task_started") - revoked_at).total_seconds() < 5
    assert cluster.workers["traitor"].wait(10) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("transport")
def test_a_thousand_tasks_run_over_renewals_and_a_change_of_the_ca(new_cluster) -> None:
    """None is lost and none fails, no link is cut; in the end everybody trusts the new CA alone."""
    cluster = new_cluster(OCTASKLY_WORKER_CERTIFICATE_S="10", OCTASKLY_DISPATCHER_CERTIFICATE_S="15")
    dispatcher = cluster.start_dispatcher()
    welcome_token = wait_until(
        lambda: (found := re.search(r"--join-token (\S+)", dispatcher.stdout)) and found[1], "the welcome"
    )
    cluster.remember_token(welcome_token)
    names = ["one", "two", "three"]
    # The token in the welcome pins the old CA, which stays for as long as that can be used.
    for name, token in zip(names, [welcome_token, None, None], strict=True):
        cluster.start_worker(name, token=token)
    cluster.wait_connected(*names)
    old_ca = cluster.rows("SELECT digest FROM certificate_authorities")
    task_ids: list[str] = []

    def submit(count: int) -> None:
        tasks = cluster.api.post("tasks", [{"command": "echo x"}] * count)
        task_ids.extend(task["id"] for task in tasks)

    def renewals(event_type: str = "certificate_renewed") -> int:
        [[count]] = cluster.rows("SELECT count(*) FROM audit_log WHERE event_type = ?", event_type)
        return count

    submit(250)
    done = cluster.manage("rotateca")
    assert done.returncode == 0, done.stderr
    submit(250)
    wait_until(lambda: renewals("ca_rotation_finished") == 1, "the old CA is gone", describe=cluster.describe)
    submit(250)
    before = renewals()
    wait_until(
        lambda: renewals() >= before + 2 * len(names), "two renewals each", timeout_s=60, describe=cluster.describe
    )
    submit(250)
    wait_until(
        lambda: cluster.rows("SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')") == [(0,)],
        "all tasks have ended",
        timeout_s=120,
        describe=cluster.describe,
    )
    # A second attempt is one that waited at the worker for too long and was handed back: it never began before.
    ended = cluster.rows("SELECT status, failures, losses, count(*) FROM tasks GROUP BY 1, 2, 3")
    assert ended == [("completed", 0, 0, 1000)]
    assert renewals("worker_connected") == len(names)
    assert renewals("dispatcher_certificate_issued") > 2
    new_ca = cluster.rows("SELECT digest FROM certificate_authorities")
    assert len(new_ca) == 1
    assert new_ca != old_ca

    # Who comes back proves itself with what it was given, and newcomers find the new CA.
    assert cluster.workers["one"].stop() == 0
    cluster.start_worker("one")
    cluster.start_worker("four")
    cluster.wait_connected("one", "four")


@pytest.mark.slow
def test_a_new_secret_key_ends_no_session_and_loses_no_worker(new_cluster) -> None:
    """Old tokens and cookies are good, the worker comes back, and the old secret key starts nothing any more."""
    cluster = new_cluster()
    cluster.start_dispatcher()
    cluster.start_worker("faithful")
    cluster.wait_connected("faithful")
    old_header = cluster.api.http.headers["Authorization"]
    secret_file = cluster.db_path.parent / "secret.key"
    old_secret = secret_file.read_text().strip()
    with signed_in(cluster.url, "admin", ADMIN_PASSWORD) as session:
        refused = cluster.manage("rotatekeys")
        assert refused.returncode == 1
        assert "stop it first" in refused.stderr
        assert cluster.dispatcher is not None
        cluster.dispatcher.stop()
        done = cluster.manage("rotatekeys")
        assert done.returncode == 0, done.stderr
        assert secret_file.read_text().strip() != old_secret

        cluster.environment["OCTASKLY_SECRET_KEY"] = old_secret
        stranger = cluster.start_dispatcher(wait=False)
        assert stranger.wait(30) == 1
        assert "secret key" in stranger.stderr
        del cluster.environment["OCTASKLY_SECRET_KEY"]

        cluster.start_dispatcher()
        cluster.wait_connected("faithful")
        new_header = cluster.api.http.headers["Authorization"]
        cluster.api.http.headers["Authorization"] = old_header
        [task] = cluster.wait_ended(cluster.api.submit("echo still here"))
        assert task["stdout"] == "still here\n"
        assert session.get("/tasks/", follow_redirects=False).status_code == 200

        cluster.api.http.headers["Authorization"] = new_header
        cluster.dispatcher.stop()
        assert cluster.manage("rotatekeys", "--end-sessions").returncode == 0
        cluster.start_dispatcher()
        cluster.wait_connected("faithful")
        cluster.api.http.headers["Authorization"] = new_header
        assert cluster.api.http.get("/api/v1/tasks").status_code == 401
        assert session.get("/tasks/", follow_redirects=False).status_code == 302
    verified = cluster.manage("auditverify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
