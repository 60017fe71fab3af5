"""What each transport costs and gives on a cable that loses packets, beside a plain TCP socket on the same cable.

    make bench-transports        (root, for the namespace at the cable's other end; else the loopback, which loses nothing)

A dispatcher's listeners run here and a worker in a namespace, each a program of its own (`transport_ends`); between them two
TUN devices and a thread of this program, which drops a part of the packets: `tests/chaos/cable.py`. It carries some tens
of thousands of packets a second, so the plain socket's numbers are the cable's, and the others are to be read beside them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.cable import cable_of_any_quality
from tests.support.netns import NamespacesUnavailable

WAYS = {"plain": "plain TCP", "tcp": "TCP, TLS", "quic": "QUIC"}
LOSSES = (0.0, 0.02)
START_S = 30.0
MEASURE_S = 60.0
"""For one transport at one loss; they take about ten."""

END = (sys.executable, "-m", "benchmarks.transport_ends")


@contextlib.contextmanager
def _serving(host: str, folder: Path) -> Iterator[None]:
    server = subprocess.Popen([*END, "serve", host, str(folder)], stdin=subprocess.PIPE)
    try:
        began_at = time.monotonic()
        while not (folder / "ends.json").exists():
            if server.poll() is not None or time.monotonic() - began_at > START_S:
                raise SystemExit("the dispatcher's end did not start")
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()
        (folder / "ends.json").unlink(missing_ok=True)


def _measure(way: str, host: str, folder: Path, prefix: Sequence[str]) -> dict[str, float]:
    try:
        done = subprocess.run(
            [*prefix, *END, way, host, str(folder)], stdout=subprocess.PIPE, timeout=MEASURE_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(f"{WAYS[way]} was not measured: {error}", flush=True)
        return {}
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _print_table(title: str, columns: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n{'':24}" + "".join(f"{WAYS[way]:>12}" for way in columns) + f"{'QUIC : TLS':>14}")
    for row in max(columns.values(), key=len):
        unit = "MB/s" if row.startswith("bulk") else "ms"
        values = [columns[way].get(row) for way in columns]
        cells = "".join(f"{value:12.2f}" if value is not None else f"{'-':>12}" for value in values)
        tls, quic = columns["tcp"].get(row), columns["quic"].get(row)
        ratio = f"{quic / tls:14.2f}" if tls and quic else f"{'-':>14}"
        print(f"{row + ', ' + unit:24}{cells}{ratio}")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="octaskly-transports-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        try:
            cable = stack.enter_context(cable_of_any_quality("transports"))
            host, prefix, losses = cable.here, cable.machine.command(), LOSSES
        except NamespacesUnavailable as error:
            print(f"No cable ({error}): this is the loopback, which loses nothing.")
            cable, host, prefix, losses = None, "127.0.0.1", [], LOSSES[:1]
        for loss in losses:
            if cable:
                cable.set_quality(loss=loss, delay_s=0.0)
            with _serving(host, folder):
                columns = {way: _measure(way, host, folder, prefix) for way in WAYS}
            _print_table(f"{loss:.0%} of the packets lost", columns)


if __name__ == "__main__":
    main()
