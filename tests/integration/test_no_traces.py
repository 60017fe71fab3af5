"""After the worst end, kill -9 of worker, spawner and supervisors at once, the host is as it was before."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import processes_with, until
from worker_node.sandbox import cgroup
from worker_node.sandbox.workspace import Workspaces

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux"),
    pytest.mark.skipif(shutil.which("ipcmk") is None, reason="needs ipcmk of util-linux"),
]

ROOT = Path(__file__).parents[2]
DAEMONS = 200
WORKER = """
import asyncio, sys
from pathlib import Path
from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import Bench

async def main():
    bench = Bench(Path(sys.argv[1]))
    bench.start(sys.argv[3], SandboxLevel(sys.argv[2]), limits=Limits(processes=250))
    print("started", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def traces(folder: Path, mark: str, segment_bytes: int) -> list[str]:
    """Return what is left on the host of a sandbox besides processes, folders and control groups.

    Other tests mount and share memory at the same time: only what carries a name of this one counts.
    """
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    size = rows[0].index("size")
    segments = [" ".join(row) for row in rows[1:] if row[size] == str(segment_bytes)]
    return mounts + segments + [str(path) for path in Path("/dev/shm").iterdir() if mark in path.name]


def groups_of(pids: list[int]) -> list[str]:
    """Return the control groups that these supervisors left."""
    place = cgroup.find(is_root=os.geteuid() == 0)
    if place is None:
        return []
    cgroup.sweep(place)
    names = {f"{cgroup.PREFIX}{pid}" for pid in pids}
    return [name for folder in place.folders() for name in names if Path(folder, name).exists()]


@pytest.mark.parametrize("level", [SandboxLevel.STRICT, SandboxLevel.VERY_STRICT])
def test_two_hundred_daemons_and_all_they_hold_are_gone_within_a_second(tmp_path, level):
    """Processes, mounts, memory segments, files in shared memory; control groups and folders at the next start."""
    mark = f"1000.{secrets.randbelow(10**9):09}"
    segment_bytes = 4096 + secrets.randbelow(10**6)
    command = (
        f"ipcmk -M {segment_bytes}; : >/dev/shm/{mark}; mkdir -p a/b; : >a/b/c; trap '' TERM;"
        f" i=0; while [ $i -lt {DAEMONS} ]; do i=$((i+1)); setsid sleep {mark} & done; wait"
    )
    arguments = [sys.executable, "-c", WORKER, str(tmp_path), level, command]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout.readline() == b"started\n"
            # The worker's own command line and the shell's carry the mark as well.
            asyncio.run(until(lambda: len(processes_with(mark)) == DAEMONS + 2, seconds=60))
            tree = psutil.Process(worker.pid).children(recursive=True)
            # Worker, spawner and supervisors at once: nobody is left who could clean up.
            keepers = [process.pid for process in tree if "spawner.py" in " ".join(process.cmdline())]
            assert len(keepers) >= 3
        finally:
            worker.kill()
    for pid in keepers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    asyncio.run(until(lambda: not processes_with(mark), seconds=1))
    assert traces(tmp_path, mark, segment_bytes) == []
    # Groups are removed by the next start of a worker; they are empty meanwhile.
    asyncio.run(until(lambda: groups_of(keepers) == []))
    # The folder is what a restart wipes.
    assert Workspaces(tmp_path / "work").wipe_all() == 1
    assert list((tmp_path / "work").iterdir()) == []
