"""How fast files travel: an input to a worker, an output back, beside the machine's limits; and what heartbeats feel.

    .venv/bin/python -m benchmarks.transfer [--mib 1024] [--folder /dev/shm]

A real dispatcher and a real worker on the loopback, through REST. An input counts from the submission to the start of
the command that has it; an output from the end of the command to the completion of the task, so all of staging, hashing,
syncing and recording is in it. The limits are measured in the same run, in turns, so that a busy moment hits them
alike; the better of two rounds counts, for the disk's moods are nobody's merit. A folder in memory takes the disk out.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Before anything loads OpenSSL; the limits are to use the cipher suite that we use.

from benchmarks import transfer_limits  # noqa: E402
from tests.support.heartbeat_clock import Beat  # noqa: E402
from tests.support.transfer_bench import HEARTBEAT_S, TransferBench, write_random  # noqa: E402

ROUNDS = 2
AT_ONCE = 3
REFERENCE = "TLS to a file, with SHA-256"
"""What does the least that a transfer of ours must do."""


def _limits(folder: Path, source: Path, ssh: dict[str, transfer_limits.Copy]) -> dict[str, Callable[[], float]]:
    target = folder / "target"
    ways: dict[str, Callable[[], float]] = {
        "TCP to nowhere": lambda: transfer_limits.through_tcp(source, None),
        "TCP to a file": lambda: transfer_limits.through_tcp(source, target),
        "TLS to a file": lambda: transfer_limits.through_tls(source, target),
        REFERENCE: lambda: transfer_limits.through_tls(source, target, takes_digest=True),
    }
    return ways | {name: functools.partial(copy, source, target) for name, copy in ssh.items()}


def measure(size_bytes: int, parent: Path | None) -> None:
    """Print the table of rates, then what heartbeats and memory were like while three went at once."""
    with tempfile.TemporaryDirectory(prefix="octaskly-transfer-", dir=parent) as name:
        folder = Path(name)
        source = folder / "source"
        table = Table(size_bytes)
        write_random(source, size_bytes)
        with transfer_limits.through_ssh(folder) as ssh:
            for _ in range(ROUNDS):
                for way, run in _limits(folder, source, ssh).items():
                    table.add(way, run())
        ours = TransferBench(folder, size_bytes)
        try:
            ours.start_worker()
            before = ours.peak_memory_mb()
            for _ in range(ROUNDS):
                write_random(source, size_bytes)
                digest = table.add_ours("upload over HTTP", ours, lambda: ours.upload(source))
                table.add_ours("input to a worker", ours, lambda digest=digest: ("", ours.fetch([digest])))
                table.add_ours("output to the dispatcher", ours, lambda: ("", ours.store(1)))
            table.print()
            _measure_at_once(ours, source, size_bytes)
            after = ours.peak_memory_mb()
            print("peak memory: " + ", ".join(f"{name} {before[name]} -> {peak} MB" for name, peak in after.items()))
        finally:
            ours.close()


class Table:
    """Rates by way, and for ours the processor time."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._seconds: dict[str, list[float]] = {}
        self._processor_s: dict[str, dict[str, float]] = {}

    def add(self, way: str, seconds: float) -> None:
        """Note one run."""
        self._seconds.setdefault(way, []).append(seconds)

    def add_ours(self, what: str, ours: TransferBench, move: Callable[[], tuple[str, float]]) -> str:
        """Run and note one of ours, which returns something and its seconds; pass on the former."""
        before = ours.processor_s()
        result, seconds = move()
        after = ours.processor_s()
        way = f"Octaskly, {what}"
        self.add(way, seconds)
        if seconds == min(self._seconds[way]):
            self._processor_s[way] = {name: after[name] - before[name] for name in after}
        return result

    def print(self) -> None:
        """Print it."""
        rates = {way: self._size_bytes / min(taken) / 1e6 for way, taken in self._seconds.items()}
        print(f"{self._size_bytes >> 20} MiB, the better of {ROUNDS}; x: beside {REFERENCE}")
        print(f"{'way':<36} {'MB/s':>6} {'x':>6}   processor seconds a GiB")
        for way, rate in rates.items():
            used = self._processor_s.get(way, {}).items()
            a_gib = ", ".join(f"{name} {seconds * (1 << 30) / self._size_bytes:.1f}" for name, seconds in used)
            print(f"{way:<36} {rate:6.0f} {rate / rates[REFERENCE]:6.2f}   {a_gib}")


def _measure_at_once(ours: TransferBench, source: Path, size_bytes: int) -> None:
    digests = []
    for _ in range(AT_ONCE):
        write_random(source, size_bytes)
        digests.append(ours.upload(source)[0])
    source.unlink()
    for what, move in (
        ("idle", lambda: time.sleep(3) or 3.0),
        ("inputs", lambda: ours.fetch(digests)),
        ("outputs", lambda: ours.store(AT_ONCE)),
    ):
        seen = len(ours.heartbeats())
        taken_s = move()
        beats = ours.heartbeats()[seen:]
        moved = f"{AT_ONCE} {what} at once, {AT_ONCE * size_bytes / taken_s / 1e6:.0f} MB/s together"
        print(f"heartbeats, {what if what == 'idle' else moved}: {_quantiles(beats)}")


def _quantiles(beats: list[Beat]) -> str:
    def at(values: list[float]) -> str:
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, most {max(values) * 1000:.1f} ms"

    late = [beat.since_last_s - HEARTBEAT_S for beat in beats]
    return f"echo {at([beat.echo_s for beat in beats])}; sent late by {at(late)} ({len(beats)} of them)"


def main() -> None:
    """Take the arguments and measure."""
    if sys.platform != "linux":
        sys.exit("the measuring runs on Linux")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of each file (default: 1024)")
    parser.add_argument("--folder", type=Path, help="where all files lie (default: the temporary folder)")
    options = parser.parse_args()
    needed = 12 * (options.mib << 20)
    free = psutil.disk_usage(str(options.folder or tempfile.gettempdir())).free
    if free < needed:
        sys.exit(f"--mib {options.mib} needs {needed >> 30} GiB of room, and {free >> 30} GiB are free")
    measure(options.mib << 20, options.folder)


if __name__ == "__main__":
    main()
