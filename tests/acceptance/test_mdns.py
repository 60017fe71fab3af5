"""A worker that is told no address finds its dispatcher on the LAN by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.netns import Machine, NamespacesUnavailable, two_machines
from tests.support.wait import wait_until

CONNECT_WITHIN_S = 5.0


@pytest.fixture
def lan() -> Iterator[tuple[Machine, Machine]]:
    """Two machines joined by a cable, or a skip that says why not."""
    pair = two_machines()
    try:
        machines = pair.__enter__()
    except NamespacesUnavailable as error:
        pytest.skip(str(error))
    yield machines
    pair.__exit__(None, None, None)


@pytest.mark.mdns
def test_a_worker_finds_its_dispatcher_by_mdns_alone(new_cluster, lan: tuple[Machine, Machine]) -> None:
    """No --dispatcher-addr: joined and connected in under five seconds from the start of the program."""
    cluster: Cluster = new_cluster()
    here, there = lan
    flags = ["--port", str(cluster.port), "--api-port", str(cluster.api_port)]
    cluster.dispatcher = cluster.run(
        "dispatcher", here.command(sys.executable, "manage.py", "rundispatcher", "--bind", "0.0.0.0", *flags)
    )
    wait_until(
        lambda: "ready" in cluster.dispatcher.stdout, "the dispatcher is ready", timeout_s=45, describe=cluster.describe
    )
    token = cluster.manage("jointoken", "--auto-approve").stdout.strip()
    cluster.remember_token(token)

    began = time.monotonic()
    worker = there.command(sys.executable, "-m", "worker_node", "--name", "finder")
    cluster.run("finder", [*worker, "--join-token", token, "--state-dir", str(cluster.state_dir("finder"))])
    connected = "SELECT count(*) FROM workers WHERE is_connected AND name = 'finder'"
    wait_until(lambda: cluster.rows(connected) == [(1,)], "the worker is connected", describe=cluster.describe)
    took_s = time.monotonic() - began

    assert took_s < CONNECT_WITHIN_S
    [(address,)] = cluster.rows("SELECT address FROM workers")
    assert address.startswith(there.address)


@pytest.mark.mdns
def test_a_worker_started_first_waits_for_its_dispatcher(new_cluster, lan: tuple[Machine, Machine]) -> None:
    """The order of starting does not matter: the worker goes on looking and joins when there is somebody."""
    cluster: Cluster = new_cluster()
    here, there = lan
    dispatcher = here.command(sys.executable, "manage.py", "rundispatcher", "--bind", "0.0.0.0")
    dispatcher += ["--port", str(cluster.port), "--api-port", str(cluster.api_port)]
    cluster.dispatcher = cluster.run("dispatcher", dispatcher)
    wait_until(
        lambda: "ready" in cluster.dispatcher.stdout, "the dispatcher is ready", timeout_s=45, describe=cluster.describe
    )
    token = cluster.manage("jointoken", "--auto-approve").stdout.strip()
    cluster.remember_token(token)
    assert cluster.dispatcher.stop() == 0

    worker = there.command(sys.executable, "-m", "worker_node", "--name", "early")
    early = cluster.run("early", [*worker, "--join-token", token, "--state-dir", str(cluster.state_dir("early"))])
    wait_until(lambda: early.stderr, "the worker says that it is looking", describe=cluster.describe)
    cluster.dispatcher = cluster.run("dispatcher-again", dispatcher)
    connected = "SELECT count(*) FROM workers WHERE is_connected AND name = 'early'"
    wait_until(
        lambda: cluster.rows(connected) == [(1,)], "the worker is connected", timeout_s=45, describe=cluster.describe
    )
    assert early.is_running
