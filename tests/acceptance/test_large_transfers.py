"""Files of a gigabyte: heartbeats do not feel them, they are sent once, and memory stays flat."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from octaskly_wire.vocabulary import Transport
from tests.support import levels
from tests.support.transfer_bench import TransferBench, write_random

pytestmark = pytest.mark.timeout(300)

GIB = 1 << 30
AT_ONCE = 3
TASKS = 100
SHARED_BYTES = GIB if hasattr(os, "getuid") and os.getuid() == 0 else GIB >> 4
"""A worker that is not root copies an input into each workspace: a hundred gigabytes would measure that."""
OVERHEAD = 1.02
"""TLS, frames and what else is said: below two of a hundred."""
MEMORY_GROWTH_MB = 150


@pytest.fixture
def new_bench(tmp_path: Path) -> Iterator[Callable[[int], TransferBench]]:
    """Starts a dispatcher, for files of a size, that asks for ten heartbeats a second."""
    levels.need(levels.usual())
    with ExitStack() as ends:
        # Gone with the test, which `tmp_path` is not: it is ten gigabytes.
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(dir=tmp_path)))

        def make(size_bytes: int) -> TransferBench:
            bench = TransferBench(folder, size_bytes)
            ends.callback(bench.close)
            return bench

        yield make


def p99_s(values: list[float]) -> float:
    """Return what 99 of 100 values are below."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


@pytest.mark.parametrize(
    ("transport", "size_bytes"),
    [
        pytest.param(Transport.TCP, GIB, marks=pytest.mark.slow),
        pytest.param(Transport.QUIC, GIB >> 6, marks=pytest.mark.quic),
    ],
    indirect=["transport"],
)
def test_heartbeats_do_not_wait_for_big_files(
    new_bench: Callable[[int], TransferBench], tmp_path: Path, transport: Transport, size_bytes: int
) -> None:
    """While three inputs, and then three outputs, are under way, the 99th of 100 heartbeats is echoed in 1 s."""
    bench = new_bench(size_bytes)
    bench.start_worker()
    digests = []
    for number in range(AT_ONCE):
        write_random(source := tmp_path / f"source-{number}", size_bytes)
        digests.append(bench.upload(source)[0])
        source.unlink()
    before = bench.peak_memory_mb()
    for move in (lambda: bench.fetch(digests), lambda: bench.store(AT_ONCE)):
        seen = len(bench.heartbeats())
        move()
        beats = bench.heartbeats()[seen:]
        assert p99_s([beat.echo_s for beat in beats]) < 1.0
        assert p99_s([beat.since_last_s for beat in beats]) < 1.0
    growth = {name: peak - before[name] for name, peak in bench.peak_memory_mb().items()}
    assert max(growth.values()) < MEMORY_GROWTH_MB, growth


@pytest.mark.slow
def test_a_hundred_tasks_fetch_their_common_input_once(
    new_bench: Callable[[int], TransferBench], tmp_path: Path
) -> None:
    """An input that all tasks share goes over the wire one time, and every command finds it whole."""
    bench = new_bench(SHARED_BYTES)
    bench.start_worker(counts_bytes=True)
    write_random(source := tmp_path / "source", SHARED_BYTES)
    digest, _ = bench.upload(source)
    source.unlink()
    before = bench.peak_memory_mb()

    bench.fetch([digest] * TASKS)

    assert SHARED_BYTES < bench.relay.back_bytes < OVERHEAD * SHARED_BYTES
    growth = {name: peak - before[name] for name, peak in bench.peak_memory_mb().items()}
    assert max(growth.values()) < MEMORY_GROWTH_MB, growth
