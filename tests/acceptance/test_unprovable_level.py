"""A machine that cannot prove a level: it says so, its tasks wait for one that can, and nothing runs weaker."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.wait import wait_until

NO_MORE_NAMESPACES = [
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    # One more is what the worker's own surroundings take.
    'echo 1 >/proc/sys/user/max_user_namespaces && exec unshare --user --map-user=1000 --map-group=1000 "$@"',
    "surroundings",
]


def can_forbid_namespaces() -> bool:
    """Return whether this machine lets a test take namespaces away from a program."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_MORE_NAMESPACES, "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(
    not can_forbid_namespaces(), reason="needs unshare (util-linux) and the right to make user namespaces"
)


def test_a_strict_task_waits_for_a_machine_that_proves_strict(cluster: Cluster) -> None:
    """Worker details and `why` give the reason; no attempt is spent; the next worker runs it."""
    levels.need(levels.usual())
    cluster.start_worker("weak", "--min-sandbox", "basic", inside=NO_MORE_NAMESPACES)
    cluster.wait_connected("weak")
    task_id = cluster.api.submit("echo ran", sandbox="strict")

    def reasons() -> str:
        return str(cluster.api.get(f"tasks/{task_id}/why"))

    wait_until(lambda: "strict" in reasons(), "why names the level", timeout_s=20, describe=reasons)
    assert "namespaces" in reasons()
    worker = cluster.api.worker_named("weak")
    assert {proof["level"] for proof in worker["levels"]} == {"basic"}
    [other] = cluster.wait_ended(cluster.api.submit("echo basic", sandbox="basic"))
    assert (other["status"], other["stdout"]) == ("completed", "basic\n")
    assert cluster.api.task(task_id)["status"] == "queued"
    assert cluster.api.attempts(task_id) == []

    cluster.start_worker("strong")
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"], task["attempt"]) == ("completed", "ran\n", 1)
    assert task["worker_id"] == cluster.api.worker_named("strong")["id"]


def test_a_worker_whose_floor_cannot_be_proven_gets_no_tasks(cluster: Cluster) -> None:
    """With the default floor nothing is offered, which the worker's log and its details say."""
    levels.need(levels.usual())
    worker = cluster.start_worker("weak", inside=NO_MORE_NAMESPACES)
    cluster.wait_connected("weak")
    assert cluster.api.worker_named("weak")["levels"] == []
    wait_until(
        lambda: "proves no sandbox level from strict upwards" in worker.tail(),
        "the worker says why",
        timeout_s=10,
        describe=worker.tail,
    )


def test_a_newcomer_on_such_a_machine_is_told_what_to_set(new_cluster: Callable[..., Cluster]) -> None:
    """`make run` there: the terminal names the two variables, and with them the first task runs."""
    cluster = new_cluster(OCTASKLY_LOCAL_MIN_SANDBOX="", OCTASKLY_DEFAULT_SANDBOX="")
    dispatcher = cluster.start_dispatcher("--with-worker", inside=NO_MORE_NAMESPACES)
    wait_until(
        lambda: all(name in dispatcher.stderr for name in ("OCTASKLY_LOCAL_MIN_SANDBOX", "OCTASKLY_DEFAULT_SANDBOX")),
        "the terminal says what to set",
        timeout_s=30,
        describe=dispatcher.tail,
    )
    assert dispatcher.stop() == 0

    cluster.environment |= {"OCTASKLY_LOCAL_MIN_SANDBOX": "basic", "OCTASKLY_DEFAULT_SANDBOX": "basic"}
    cluster.start_dispatcher("--with-worker", inside=NO_MORE_NAMESPACES)
    [task] = cluster.wait_ended(cluster.api.submit("echo hello"))
    assert (task["status"], task["stdout"]) == ("completed", "hello\n")
