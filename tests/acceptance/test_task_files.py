"""Files follow their tasks through the real programs, also over deaths on either side."""

from __future__ import annotations

import hashlib
import signal

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.programs import new_mark, sleepers, wake
from tests.support.wait import wait_until

pytestmark = pytest.mark.usefixtures("transport")


def put(cluster: Cluster, data: bytes) -> str:
    """Upload a content and return its digest."""
    digest = hashlib.sha256(data).hexdigest()
    answer = cluster.api.http.put(f"/api/v1/files/sha256:{digest}", content=data)
    assert answer.is_success, answer.text
    return digest


def output(cluster: Cluster, task_id: str, name: str) -> bytes:
    """Download an output of a task."""
    answer = cluster.api.http.get(f"/api/v1/tasks/{task_id}/outputs/{name}")
    assert answer.is_success, answer.text
    return answer.content


def test_the_output_of_one_task_is_the_input_of_the_next_at_every_level(cluster: Cluster) -> None:
    """What comes out is what went in, changed by each command in turn."""
    cluster.start_worker("worker", "--min-sandbox", "none")
    cluster.wait_connected("worker")
    data = bytes(range(256)) * 10_000
    digest = put(cluster, data)
    for level in sorted(levels.proven(), key=lambda level: level.rank):
        task_id = cluster.api.submit(
            "mkdir -p out && { cat in/data; echo $0; } >out/data && : >out/empty",
            inputs=[f"in/data=sha256:{digest}"],
            outputs=["out/*"],
            sandbox=level,
        )
        [task] = cluster.wait_ended(task_id)
        assert task["status"] == "completed", task
        data += b"/bin/sh\n"
        assert output(cluster, task_id, "out/data") == data
        assert output(cluster, task_id, "out/empty") == b""
        digest = hashlib.sha256(data).hexdigest()


def test_an_output_survives_its_worker(cluster: Cluster) -> None:
    """Killed before the dispatcher heard of it, the worker comes back and delivers it: the command runs once."""
    mark = new_mark()
    worker = cluster.start_worker("worker")
    cluster.wait_connected("worker")
    task_id = cluster.api.submit(f"sleep {mark}; echo made by $OCTASKLY_ATTEMPT >out", outputs=["out"])
    wait_until(lambda: sleepers(mark), "the command runs", describe=cluster.describe)
    assert cluster.dispatcher is not None
    cluster.dispatcher.process.send_signal(signal.SIGSTOP)
    try:
        wake(mark)
        spool = cluster.state_dir("worker") / "spool"
        wait_until(lambda: list(spool.glob("*.outcome")), "the outcome is spooled", describe=cluster.describe)
        worker.kill()
    finally:
        cluster.dispatcher.process.send_signal(signal.SIGCONT)
    cluster.start_worker("worker")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert output(cluster, task_id, "out") == b"made by 1\n"
    outgoing = cluster.state_dir("worker") / "outgoing"
    wait_until(lambda: not list(outgoing.iterdir()), "the worker lets go of it", describe=cluster.describe)


def test_an_output_survives_a_restart_of_the_dispatcher(cluster: Cluster) -> None:
    """Its attempt is found again, and what the worker kept is taken."""
    mark = new_mark()
    cluster.start_worker("worker")
    cluster.wait_connected("worker")
    digest = put(cluster, b"given\n")
    task_id = cluster.api.submit(
        f"sleep {mark}; cat given >out", inputs=[f"given=sha256:{digest}"], outputs=["out"], timeout=60
    )
    wait_until(lambda: sleepers(mark), "the command runs", describe=cluster.describe)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    wake(mark)
    outgoing = cluster.state_dir("worker") / "outgoing"
    wait_until(lambda: list(outgoing.iterdir()), "the output is collected", describe=cluster.describe)
    cluster.start_dispatcher()
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert output(cluster, task_id, "out") == b"given\n"
