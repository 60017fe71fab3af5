"""A cluster that moves big files between its dispatcher and one worker whose heartbeats are timed."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.support import heartbeat_clock
from tests.support.cluster import Cluster
from tests.support.counting_relay import counting_relay
from tests.support.programs import Program

HEARTBEAT_S = 0.1
"""Fifty times as often as usual, so that a short run has many."""
SLOTS = 4
TIMEOUT_S = 120.0


def write_random(path: Path, size_bytes: int) -> None:
    """Write a content that nobody has yet: one random piece, again and again."""
    piece = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size_bytes // len(piece)):
            file.write(piece)


class TransferBench:
    """One dispatcher and one worker, used through REST."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._limits = {"disk_mb": 4 * (size_bytes >> 20) + 1024}
        self._clock = folder / "heartbeats"
        self._ends = ExitStack()
        self.cluster = Cluster(
            folder, OCTASKLY_HEARTBEAT_S=str(HEARTBEAT_S), OCTASKLY_LEASE_S="30", OCTASKLY_LOG="warn"
        )
        self._ends.callback(self.cluster.close)
        self.cluster.start_dispatcher()
        self.relay = self._ends.enter_context(counting_relay(self.cluster.port))

    def start_worker(self, *, counts_bytes: bool = False) -> None:
        """Start the worker, with `relay` before it when its bytes are to be counted: that costs some speed."""
        timed = [sys.executable, "-m", "tests.support.heartbeat_clock", str(self._clock)]
        by_relay = ["--dispatcher-addr", f"127.0.0.1:{self.relay.port}"] if counts_bytes else []
        self.cluster.start_worker("worker", *by_relay, slots=SLOTS, inside=timed)
        self.cluster.wait_connected("worker")

    def close(self) -> None:
        """End all of it."""
        self._ends.close()

    def upload(self, source: Path) -> tuple[str, float]:
        """Store a file by its digest; return that and the seconds of the upload."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            began = time.monotonic()
            answer = self.cluster.api.http.put(f"/api/v1/files/sha256:{digest}", content=file, timeout=TIMEOUT_S)
        assert answer.is_success, answer.text
        return digest, time.monotonic() - began

    def fetch(self, digests: Sequence[str]) -> float:
        """Run a command for each of these inputs; return the seconds until the last one started."""
        command = f"test $(wc -c < input) = {self._size_bytes}"
        ended = self._run([{"command": command, "inputs": [f"input=sha256:{digest}"]} for digest in digests])
        return max(_time(task, "started_at") for task in ended) - min(_time(task, "created_at") for task in ended)

    def store(self, count: int) -> float:
        """Run commands that make an output each; return the seconds from the first one's end to the last one's."""
        # The task's id makes each content another: what the dispatcher has already is not sent.
        command = f"echo $OCTASKLY_TASK_ID > output; head -c {self._size_bytes} /dev/zero >> output"
        ended = self._run([{"command": command, "outputs": ["output"]}] * count)
        first_end = min(_time(task, "started_at") + task["duration_ms"] / 1000 for task in ended)
        return max(_time(task, "completed_at") for task in ended) - first_end

    def heartbeats(self) -> list[heartbeat_clock.Beat]:
        """Return all heartbeats so far."""
        return heartbeat_clock.read(self._clock)

    def peak_memory_mb(self) -> dict[str, int]:
        """Return the most memory that each program ever had."""
        return {_name(program): _peak_mb(program.pid) for program in self.cluster.programs}

    def processor_s(self) -> dict[str, float]:
        """Return the processor time that each program has taken."""
        return {_name(program): sum(psutil.Process(program.pid).cpu_times()[:2]) for program in self.cluster.programs}

    def _run(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Submit tasks and return them once all are completed."""
        api = self.cluster.api
        waiting = {task["id"] for task in api.post("tasks", [task | {"limits": self._limits} for task in tasks])}
        ended: list[dict[str, Any]] = []
        deadline = time.monotonic() + TIMEOUT_S
        while waiting:
            assert time.monotonic() < deadline, self.cluster.describe()
            for task in api.post("tasks/wait", {"ids": sorted(waiting), "timeout": 20})["tasks"]:
                assert task["status"] == "completed", f"{task}\n{self.cluster.describe()}"
                waiting.remove(task["id"])
                ended.append(task)
        return ended


def _name(program: Program) -> str:
    return program.name.rpartition("-")[0]


def _peak_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1000


def _time(task: dict[str, Any], name: str) -> float:
    return datetime.fromisoformat(task[name]).timestamp()
