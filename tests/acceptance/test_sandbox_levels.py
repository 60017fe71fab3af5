"""What a sandbox level means to a user: how a task ran is on record, and the network is for those who asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.levels import SandboxLevel
from tests.support.other_user import NoOtherUser, as_other_user

STRICT, VERY_STRICT = SandboxLevel.STRICT, SandboxLevel.VERY_STRICT
BACKENDS = {STRICT: "linux-namespaces", VERY_STRICT: "linux-namespaces-landlock"}
KERNEL_OR_POLLED = {"kernel", "polled"}


@pytest.mark.parametrize("level", [STRICT, VERY_STRICT])
def test_a_task_runs_at_its_level_and_the_attempt_says_how(cluster: Cluster, level: SandboxLevel) -> None:
    """Level, backend and who held which limit are on record; inside there is an own folder and nobody else."""
    levels.need(level)
    cluster.start_worker("alpha")
    closed = f"[ -e {cluster.state_dir('alpha')} ] || echo hidden"
    command = f"pwd; id -u; {closed}; ls -A /root; ls -d /proc/[0-9]* | wc -l; echo written >file; cat file"
    task_id = cluster.api.submit(command, sandbox=level, limits={"memory_mb": 100, "cpu_seconds": 20})
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stderr"], task["sandbox"]) == ("completed", "", level)
    pwd, user, state, processes, word = task["stdout"].split()
    assert (pwd, user, state, word) == ("/tmp", "1000", "hidden", "written")
    # The sandbox's first process, the shell and those of its pipe.
    assert int(processes) <= 4
    [attempt] = cluster.api.attempts(task_id)
    assert (attempt["sandbox_level"], attempt["sandbox_backend"]) == (level, BACKENDS[level])
    held = attempt["limits"]
    assert set(held.values()) == KERNEL_OR_POLLED
    assert {"memory_mb", "cpu_seconds", "processes", "open_files", "disk_mb", "timeout_s", "output_kb"} <= set(held)
    assert (held["open_files"], held["processes"], held["timeout_s"]) == ("kernel", "kernel", "polled")
    assert held["disk_mb"] == ("kernel" if level is VERY_STRICT else "polled")
    assert cluster.rows("SELECT sandbox_level, sandbox_backend FROM results") == [(level, BACKENDS[level])]


def test_a_limit_that_ends_a_task_is_named(cluster: Cluster) -> None:
    """Whoever takes more than was allowed fails with the limit as the reason, at the default level."""
    levels.need(STRICT)
    cluster.start_worker("alpha")
    hog = cluster.api.submit("head -c 300000000 /dev/zero | tail >/dev/null", limits={"memory_mb": 64})
    filler = cluster.api.submit("head -c 300000000 /dev/zero >file; exit $?", limits={"disk_mb": 16})
    reasons = [task["failure_reason"] for task in cluster.wait_ended(hog, filler)]
    assert reasons == ["memory_limit", "disk_limit"]


def test_a_workers_details_show_what_each_level_is_and_leaves_open(cluster: Cluster) -> None:
    """REST has each offered level with backend and gaps, and why the others are not offered."""
    levels.need(STRICT)
    cluster.start_worker("alpha")
    cluster.start_worker("beta", "--min-sandbox", "none")
    cluster.wait_connected("alpha", "beta")
    alpha, beta = (cluster.api.get(f"workers/{cluster.api.worker_named(name)['id']}") for name in ("alpha", "beta"))
    offered = {proof["level"]: proof for proof in alpha["levels"]}
    assert set(offered) == levels.proven() - {SandboxLevel.NONE, SandboxLevel.BASIC}
    assert {level: proof["backend"] for level, proof in offered.items()} == {
        level: BACKENDS[SandboxLevel(level)] for level in offered
    }
    assert any(gap.startswith("network: ") for gap in offered["strict"]["gaps"])
    missing = {other["level"]: other for other in alpha["levels_unproven"]}
    assert set(missing) == set(SandboxLevel) - set(offered)
    for level in ("none", "basic"):
        assert missing[level]["is_below_floor"]
        assert "strict" in missing[level]["reason"]
    weakest = next(proof for proof in beta["levels"] if proof["level"] == "none")
    assert weakest["backend"] == "linux-spawner"
    assert {"files", "processes", "network"} <= {gap.partition(":")[0] for gap in weakest["gaps"]}


# --- the network -------------------------------------------------------------------------------------


class Service:
    """A service of the host that greets whoever connects."""

    def __init__(self) -> None:
        self.greeted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.greeted += 1
            with connection:
                connection.sendall(b"hello from the host\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def service() -> Iterator[Service]:
    """A service on this machine's loopback."""
    service = Service()
    yield service
    service.close()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is what connects in these commands")
def test_the_network_is_for_a_task_that_asks_on_a_worker_that_allows_it(cluster: Cluster, service: Service) -> None:
    """Without asking nothing is reached; asking, it waits for such a worker, and reaches the host's own services."""
    levels.need(STRICT)
    command = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{service.port} && cat <&3'"
    cluster.start_worker("closed", "--no-task-network")
    cluster.wait_connected("closed")
    asking = cluster.api.submit(command, network=True)
    silent = cluster.api.submit(command)
    [task] = cluster.wait_ended(silent)
    assert (task["status"], task["failure_reason"], task["stdout"]) == ("failed", "exit_code", "")
    assert cluster.api.task(asking)["status"] == "queued"
    [reason] = cluster.api.get(f"tasks/{asking}/why")["workers"]
    assert "network" in reason["reason"]

    cluster.start_worker("open")
    [task] = cluster.wait_ended(asking)
    assert (task["status"], task["stdout"]) == ("completed", "hello from the host\n")
    assert task["worker_id"] == cluster.api.worker_named("open")["id"]
    # On a worker that allows it only who asks gets it, too.
    assert cluster.workers["closed"].stop() == 0
    [task] = cluster.wait_ended(cluster.api.submit(command))
    assert (task["status"], task["stdout"]) == ("failed", "")
    assert service.greeted == 1


# --- the check ---------------------------------------------------------------------------------------


def may_make_namespaces() -> bool:
    """Return whether the kernel lets this user make the namespaces of a sandbox, as another program finds."""
    try:
        return subprocess.run(["unshare", "--user", "--mount", "--map-root-user", "true"], check=False).returncode == 0
    except OSError:
        return False


def unproven_levels() -> list[str]:
    """Return the levels that --check does not prove, with the reasons; called as another user, too."""
    return [f"{level}: {why_not}" for level, why_not in levels.unproven().items()]


def test_check_proves_what_this_machine_can() -> None:
    """A table of four levels, each with its backend; where namespaces can be made, all are proven."""
    done = levels.check()
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line[0] for line in lines] == ["level", *SandboxLevel]
    if not may_make_namespaces():
        pytest.skip("this user may make no namespaces here")
    has_landlock = "this kernel has no Landlock" not in done.stdout
    assert {line[0]: line[2] for line in lines[1:] if line[1] == "yes"} == {
        "none": "linux-spawner",
        "basic": "linux-spawner",
        "strict": "linux-namespaces",
        **({"very_strict": "linux-namespaces-landlock"} if has_landlock else {}),
    }


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_check_proves_the_same_for_an_ordinary_user() -> None:
    """The levels need no root."""
    try:
        may = as_other_user("tests.acceptance.test_sandbox_levels:may_make_namespaces")
        unproven = as_other_user("tests.acceptance.test_sandbox_levels:unproven_levels")
    except NoOtherUser as reason:
        pytest.skip(str(reason))
    if not may:
        pytest.skip("an ordinary user may make no namespaces here")
    assert [why_not for why_not in unproven if "this kernel has no Landlock" not in why_not] == []
