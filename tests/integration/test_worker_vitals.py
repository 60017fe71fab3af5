"""What a worker reads of its machine."""

from __future__ import annotations

import psutil
import pytest

from worker_node.shell import machine, vitals


def test_the_machine_is_read_as_psutil_reads_it(tmp_path):
    """On Linux the worker does without psutil; elsewhere it is psutil's word anyway."""
    total_bytes, available_bytes = machine.memory_bytes()
    memory = psutil.virtual_memory()
    assert total_bytes == memory.total
    assert available_bytes == pytest.approx(memory.available, rel=0.5)
    assert machine.disk_free_bytes(tmp_path) == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.5)
    assert machine.load_1m() >= 0
    times, (busy, passed) = psutil.cpu_times(), machine.processor_times()
    assert busy / passed == pytest.approx(1 - (times.idle + getattr(times, "iowait", 0)) / sum(times[:8]), abs=0.05)


def test_the_load_is_the_share_since_the_reading_before(monkeypatch, tmp_path):
    """A clock that stands still, or that steps back a little as the kernel's does, gives no strange number."""
    readings = iter([(100.0, 1000.0), (125.0, 1100.0), (125.0, 1100.0), (124.9, 1110.0), (200.0, 1150.0)])
    monkeypatch.setattr(machine, "processor_times", lambda: next(readings))
    signs = vitals.VitalSigns(tmp_path)
    assert [signs.read().cpu_percent for _ in range(4)] == [25.0, 0.0, 0.0, 100.0]
