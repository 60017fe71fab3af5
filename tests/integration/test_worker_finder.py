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
        announced = Announcement(cluster, 5555 + number, 0, (1,), "abcd1234")
        await network.async_register_service(ServiceInfo(
            SERVICE_TYPE, f"{cluster}.{SERVICE_TYPE}", port=announced.port, properties=announced.to_txt(),
            parsed_addresses=["127.0.0.1"], server=f"{cluster}.local."))
    started_at = time.monotonic()
    found = await asyncio.wait_for(find_dispatchers(lambda announced: announced.cluster_id == "ours"), 10)
    assert found == [Address("127.0.0.1", 5556)], found
    assert time.monotonic() - started_at < 5
    await network.async_close()

asyncio.run(main())
"""

SETUP = """
ip link set lo up && ip link set lo multicast on && ip route add 224.0.0.0/4 dev lo && exec "$0" -W error -c "$1"
"""


@pytest.mark.mdns
def test_only_the_own_cluster_is_found_within_five_seconds():
    """Of several announcements the one that fits is returned, and soon."""
    if not UNSHARE or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    probe = subprocess.run([UNSHARE, "-rn", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip(f"no network namespace here: {probe.stderr.decode().strip()}")
    done = subprocess.run(
        [UNSHARE, "-rn", "sh", "-c", SETUP, sys.executable, SCENE],
        check=False,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
