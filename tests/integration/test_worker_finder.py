"""mDNS in a network namespace of the test's own: the right dispatcher is found in time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNSHARE = shutil.which("unshare")

SCENE = """
import asyncio, time
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf
from octaskly_wire.announcement import SERVICE_TYPE, Announcement
from worker_node.config import Address
from worker_node.shell.finder import find_dispatchers

async def main():
    network = AsyncZeroconf(interfaces=["127.0.0.1"])
    for number, cluster in enumerate(["other", "ours", "third"]):
        announced = Announcement(cluster, 5555 + number, 6555 + number, (1,), "abcd1234")
        await network.async_register_service(ServiceInfo(
            SERVICE_TYPE, f"{cluster}.{SERVICE_TYPE}", port=announced.port, properties=announced.to_txt(),
            parsed_addresses=["127.0.0.1"], server=f"{cluster}.local."))
    started_at = time.monotonic()
    found = await asyncio.wait_for(find_dispatchers(lambda announced: announced.cluster_id == "ours", 8), 10)
    assert found == [Address("127.0.0.1", 5556, 6556)], found
    assert time.monotonic() - started_at < 5
    await network.async_close()

asyncio.run(main())
"""

SPOOFED = """
import asyncio, contextlib, socket, time
from pathlib import Path
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf
from octaskly_wire.announcement import SERVICE_TYPE, Announcement
from tests.support.loopback import LoopbackDispatcher, config_for
from worker_node.shell.joiner import CannotJoin, Joiner
from worker_node.shell.keyfile import StateFolder

FAKES = 100

async def main():
    true, false = LoopbackDispatcher(), LoopbackDispatcher()
    # Half of the impostors answer, with a CA of their own; half take the connection and say nothing.
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(FAKES // 2)]
    ports = [listening.getsockname()[1] for listening in silent]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(FAKES // 2):
            await stack.enter_async_context(false.listening())
            ports.append(false.address.port)
        await stack.enter_async_context(true.listening())
        network = AsyncZeroconf(interfaces=["127.0.0.1"])
        for number, port in enumerate([*ports, true.address.port]):
            announced = Announcement("cluster-1", port, 0, (1,), true.token.ca_digest.hex()[:8])
            await network.async_register_service(ServiceInfo(
                SERVICE_TYPE, f"d{number}.{SERVICE_TYPE}", port=port, properties=announced.to_txt(),
                parsed_addresses=["127.0.0.1"], server=f"d{number}.local."), cooperating_responders=True)
        for name, token in (("unpinned", None), ("pinned", true.token)):
            config = config_for(true, Path(FOLDER, name), dispatcher_address=None, join_token=token)
            with contextlib.closing(StateFolder(config.state_dir)) as folder:
                began = time.monotonic()
                if token is None:
                    with contextlib.suppress(CannotJoin):
                        await Joiner(config, folder, "boot-1").join()
                        raise SystemExit("an unpinned worker joined somebody")
                    assert false.seen == true.seen == []
                else:
                    connection, _ = await Joiner(config, folder, "boot-1").join()
                    took_s = time.monotonic() - began
                    assert took_s < 5, took_s
                    await connection.close()
        assert true.seen == ["FetchCa", "Enrol", "Hello", "Auth"], true.seen
        assert set(false.seen) <= {"FetchCa"}, set(false.seen)
        await network.async_close()
    for listening in silent:
        listening.close()

asyncio.run(main())
"""

SETUP = """
ip link set lo up && ip link set lo multicast on && ip route add 224.0.0.0/4 dev lo && exec "$0" -W error -c "$1"
"""


def in_a_network_of_its_own(scene: str) -> None:
    """Run a scene where nobody else announces anything."""
    if not UNSHARE or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    probe = subprocess.run([UNSHARE, "-rn", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip(f"no network namespace here: {probe.stderr.decode().strip()}")
    done = subprocess.run(
        [UNSHARE, "-rn", "sh", "-c", SETUP, sys.executable, scene],
        check=False,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.mdns
def test_only_the_own_cluster_is_found_within_five_seconds():
    """Of several announcements the one that fits is returned, and soon."""
    in_a_network_of_its_own(SCENE)


@pytest.mark.mdns
@pytest.mark.slow
def test_a_hundred_impostors_neither_get_a_secret_nor_cost_time(tmp_path):
    """They announce the very same cluster. Without a token nobody is asked at all; with one, the true one is met in 5 s."""
    in_a_network_of_its_own(f"FOLDER = {str(tmp_path)!r}\n{SPOOFED}")
