"""Samples on a real SQLite file: one row a worker and step, means after a while, nothing without end."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from accounts_app.roles import Role
from metrics_app.models import ClusterSample, WorkerSample
from metrics_app.sampling import Sampler, housekeep
from metrics_app.selectors import cluster_history, latest_point, worker_history
from metrics_app.steps import FOLDED_S, SAMPLE_S
from metrics_app.tally import Happened, Tally
from octaskly_site import sampling, status
from tasks_app.ids import new_task_ids
from tasks_app.models import Task
from workers_app.models import Worker

pytestmark = pytest.mark.django_db

NOW = 1_800_000_000
"""An end of steps of both lengths."""
VITALS = {
    "cpu_percent": 50.0, "memory_total_bytes": 1000, "memory_available_bytes": 400, "disk_free_bytes": 7,
    "load_1m": 0.5, "round_trip_seconds": 0.002,
}  # fmt: skip


def add_worker(worker_id: str, **changes) -> Worker:
    """Put a worker into the database."""
    fields = {"public_key_sha256": worker_id, "created_at": datetime.now(UTC), "slots": 2, "admission": "approved"}
    return Worker.objects.create(id=worker_id, name=worker_id, **(fields | changes))


def add_worker_sample(at: int, cpu_percent: float | None, worker_id: str = "w1", **changes) -> None:
    """Put a sample into the database."""
    fields = {"step_s": SAMPLE_S, "cpu_percent_max": cpu_percent, "slots_used": 1}
    WorkerSample.objects.create(worker_id=worker_id, at=at, cpu_percent=cpu_percent, **(fields | changes))


def add_cluster_sample(at: int, **changes) -> None:
    """Put a sample into the database."""
    fields = {
        "step_s": SAMPLE_S, "queued": 0, "running": 0, "slots_used": 0, "slots_total": 4, "workers_connected": 1,
        "cpu_percent": None, "memory_mb": 100, "database_mb": 1,
    }  # fmt: skip
    ClusterSample.objects.create(at=at, **(fields | changes))


def test_a_sample_tells_what_stands_and_what_happened(user_of):
    """A row for each connected worker, one for the cluster, and what was counted is counted once."""
    add_worker("w1", is_connected=True, vitals=VITALS)
    add_worker("w2", is_connected=True)
    add_worker("w3", vitals=VITALS)
    add_worker("w4", is_connected=True, vitals=VITALS, admission="pending", slots=100)
    moment, owner = datetime.now(UTC), user_of(Role.CLIENT)
    for number in range(4):
        live = {"worker_id": "w1", "assigned_at": moment, "status": "running" if number < 2 else "queued"}
        Task.objects.create(
            id=new_task_ids(1)[0], command="true", sandbox="basic", owner=owner, created_at=moment,
            available_at=moment, **(live if number < 3 else {}),
        )  # fmt: skip
    tally = Tally()
    tally.note(Happened(Counter(completed=3, cancelled=1), 4, 0.2, 2, 9.0))
    sampler = Sampler(tally)
    assert latest_point() is None
    sampler.sample(NOW + 0.1)
    sampler.sample(NOW + 10.1)
    newest = latest_point()
    assert newest["at"] == NOW + 10
    assert [newest[name] for name in ("completed", "commit_ms", "queue_wait_s")] == [0, None, None]
    step_s, points = cluster_history(NOW + 11, 3600)
    assert (step_s, points[-1]) == (SAMPLE_S, newest)
    point = points[0]
    assert point.pop("memory_mb") > 10
    assert point.pop("database_mb") > 0.1
    assert 0 <= (point.pop("cpu_percent") or 0) <= 100
    assert point == {
        "at": NOW, "queued": 2, "running": 2, "completed": 3, "failed": 0, "cancelled": 1, "slots_used": 2,
        "slots_total": 4, "workers_connected": 3, "commit_ms": 50, "queue_wait_s": 4.5,
    }  # fmt: skip
    # Three are assigned, and the one beyond the slots waits on the worker.
    assert worker_history("w1", NOW + 11, 3600)[1][0] == {
        "at": NOW, "cpu_percent": 50, "cpu_percent_max": 50, "memory_used_bytes": 600, "memory_used_bytes_max": 600,
        "disk_free_bytes": 7, "load_1m": 0.5, "slots_used": 2, "round_trip_ms": 2,
    }  # fmt: skip
    silent = worker_history("w2", NOW + 11, 3600)[1][0]
    assert {silent[name] for name in silent if name not in {"at", "slots_used"}} == {None}
    assert worker_history("w3", NOW + 11, 3600)[1] == []


def test_a_step_that_comes_twice_has_one_row():
    """After the clock was set back the newer values stand."""
    add_worker("w1", is_connected=True, vitals=VITALS)
    tally = Tally()
    sampler = Sampler(tally)
    sampler.sample(NOW)
    tally.note(Happened(Counter(failed=1)))
    Worker.objects.update(vitals=VITALS | {"cpu_percent": 1.0})
    sampler.sample(NOW + 1)
    assert list(ClusterSample.objects.values_list("at", "failed")) == [(NOW, 1)]
    assert list(WorkerSample.objects.values_list("at", "cpu_percent")) == [(NOW, 1)]


def test_samples_become_means_that_weigh_what_they_stand_for():
    """Gaps stay gaps, null is no zero, and a mean of means weighs each by its samples."""
    for number, cpu in enumerate((10, 20, None, 60), start=1):
        add_worker_sample(NOW + number * SAMPLE_S, cpu)
        add_cluster_sample(
            NOW + number * SAMPLE_S, queued=number, completed=number, commits=number, commit_seconds=0.5, starts=1,
            queue_wait_seconds=number,
        )  # fmt: skip
    add_worker_sample(NOW + FOLDED_S, 30)
    add_cluster_sample(NOW + FOLDED_S, queued=90)
    for at in (NOW + FOLDED_S + SAMPLE_S, NOW + 5 * FOLDED_S):
        add_worker_sample(at, 80)
        add_cluster_sample(at, completed=1)
    add_worker_sample(NOW + FOLDED_S, 99, "w2")
    ended = NOW + 5 * FOLDED_S + SAMPLE_S
    housekeep(ended, 7)
    housekeep(ended, 7)
    means = WorkerSample.objects.filter(step_s=FOLDED_S).order_by("at", "worker_id")
    assert list(means.values_list("worker_id", "at", "samples", "cpu_percent", "cpu_percent_max", "round_trip_ms")) == [
        ("w1", NOW + FOLDED_S, 5, 30, 60, None),
        ("w2", NOW + FOLDED_S, 1, 99, 99, None),
        ("w1", NOW + 2 * FOLDED_S, 1, 80, 80, None),
        ("w1", NOW + 5 * FOLDED_S, 1, 80, 80, None),
    ]
    step_s, points = cluster_history(ended, 3 * 3600)
    assert step_s == FOLDED_S
    told = [(p["at"] - NOW, p["queued"], p["completed"], p["commit_ms"], p["queue_wait_s"]) for p in points]
    assert told == [(300, 20, 10, 200, 2.5), (600, 0, 1, None, None), (1500, 0, 1, None, None)]
    # A day and more in steps of ten minutes: five samples and one, weighed as such.
    step_s, points = worker_history("w1", ended, 100 * 3600)
    assert step_s == 600
    assert [(p["at"] - NOW, round(p["cpu_percent"], 2)) for p in points] == [
        (600, round((5 * 30 + 80) / 6, 2)),
        (ended - NOW, 80),
    ]


def test_what_was_not_folded_yet_is_in_the_chart_all_the_same():
    """The newest minutes come from samples, and the step that has not ended is told up to now."""
    add_cluster_sample(NOW + SAMPLE_S, completed=1)
    housekeep(NOW + FOLDED_S + SAMPLE_S, 7)
    add_cluster_sample(NOW + FOLDED_S + SAMPLE_S, completed=2)
    now = NOW + FOLDED_S + 12
    points = cluster_history(now, 24 * 3600)[1]
    assert [(point["at"], point["completed"]) for point in points] == [(NOW + FOLDED_S, 1), (now, 2)]


@pytest.mark.parametrize(("keep_days", "left"), [(7, 1), (0, 2)])
def test_rows_are_let_go_of(keep_days, left):
    """Samples after two hours, means after the days that are set, or never."""
    for age_s in (7201, 7000):
        add_worker_sample(NOW - age_s // 10 * 10, 1)
        add_cluster_sample(NOW - age_s // 10 * 10)
    for age_s in (8 * 86_400, 6 * 86_400):
        add_worker_sample(NOW - age_s, 1, step_s=FOLDED_S)
        add_cluster_sample(NOW - age_s, step_s=FOLDED_S)
    housekeep(NOW, keep_days)
    for rows in (WorkerSample.objects, ClusterSample.objects):
        assert rows.filter(step_s=SAMPLE_S).count() == 1
        assert rows.filter(step_s=FOLDED_S, at__lt=NOW - 86_400).count() == left


def test_rates_remember_what_an_earlier_process_counted():
    """A restart does not make them fall to nothing."""
    add_cluster_sample(NOW - 200, completed=5, failed=5)
    add_cluster_sample(NOW - 400, completed=1000)
    tally = Tally(lambda: float(NOW))
    Sampler(tally).recall(NOW)
    assert tally.recent_rates() == {"completed_per_min": 1, "failed_per_min": 1, "failed_ratio": 0.5}


def test_a_database_that_cannot_be_written_costs_samples_and_one_line(monkeypatch, caplog):
    """The rounds go on, say so once at each turn, and count nothing twice; in read-only mode they do not even try."""
    caplog.set_level(logging.INFO, logger="octaskly_site.sampling")
    monkeypatch.setattr(sampling.connections, "close_all", lambda: None)
    rounds = sampling.Rounds()
    counts = Tally()
    rounds._sampler = Sampler(counts)
    counts.note(Happened(Counter(completed=2)))

    def locked(*_, **__):
        raise OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr("metrics_app.sampling._write", locked)
        for _ in range(3):
            rounds.take_one()
    monkeypatch.setattr(status, "_read_only_reason", lambda: "full")
    rounds.take_one()
    assert not ClusterSample.objects.exists()
    monkeypatch.setattr(status, "_read_only_reason", None)
    rounds.take_one()
    assert ClusterSample.objects.get().completed == 2
    assert [record.event for record in caplog.records] == ["samples_skipped", "samples_resumed"]
