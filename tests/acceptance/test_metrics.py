"""Prometheus scrapes a real cluster, and what it reads agrees with the tables."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.migrated_database import lay_database
from tests.support.wait import wait_until

TOKEN = "scrape me if you can"


@pytest.fixture
def watched(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A dispatcher with a scrape token and one worker, both of which log as JSON."""
    cluster = new_cluster(OCTASKLY_METRICS_TOKEN=TOKEN)
    lay_database(cluster.db_path)
    cluster.start_dispatcher("--log-json")
    cluster.secrets.add(TOKEN)
    cluster.start_worker("alpha", "--log-json")
    cluster.wait_connected("alpha")
    return cluster


def scrape(cluster: Cluster) -> dict[tuple[str, ...], float]:
    """Return the samples by name and their labels' values in the order of the labels' names, buckets left out."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = httpx.get(f"{cluster.url}/metrics", headers=headers, trust_env=False, timeout=10)
    assert response.status_code == 200
    samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]
    return {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples if "le" not in s.labels}


def events(text: str) -> list[dict]:
    """Return the JSON lines of a log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_what_is_scraped_agrees_with_the_tables(watched: Cluster) -> None:
    """Run times, starts, waits and counts of real tasks, a worker's round trip; others are refused; logs name events."""
    assert httpx.get(f"{watched.url}/metrics", trust_env=False).status_code == 401
    tasks = watched.api.post("tasks", [{"command": command} for command in ["sleep 0.1"] * 5 + ["exit 3"] * 2])
    watched.wait_ended(*(task["id"] for task in tasks))
    level = levels.usual()
    # A commit is seen a moment before it is counted.
    wait_until(lambda: scrape(watched).get(("octaskly_spawn_seconds_count", level)) == 7, "all is counted")
    samples = scrape(watched)
    rows = watched.rows(
        "SELECT outcome, count(*), sum(duration_ms) / 1000.0, sum(spawn_seconds), min(spawn_seconds) FROM results GROUP BY 1"
    )
    assert [(outcome, count) for outcome, count, *_ in rows] == [("completed", 5), ("failed", 2)]
    for outcome, count, run_s, _, least_s in rows:
        assert samples["octaskly_run_seconds_count", outcome] == count
        assert samples["octaskly_run_seconds_sum", outcome] == pytest.approx(run_s)
        assert 0 < least_s < 10
    assert samples["octaskly_spawn_seconds_sum", level] == pytest.approx(sum(row[3] for row in rows))
    assert samples["octaskly_attempts_total", "exit_code", "failed"] == 2
    assert samples["octaskly_tasks", "completed"] == 5
    assert samples["octaskly_slots", "free"] == 4
    assert samples[("octaskly_queue_wait_seconds_count",)] == 7
    assert samples[("octaskly_commit_seconds_count",)] > 2
    worker_id = watched.api.worker_named("alpha")["id"]
    wait_until(
        lambda: 0 < scrape(watched).get(("octaskly_worker_round_trip_seconds", "alpha", worker_id), 0) < 5,
        "the worker's round trip",
        describe=watched.describe,
    )
    assert watched.api.attempts(tasks[0]["id"])[0]["spawn_seconds"] > 0
    assert watched.dispatcher is not None
    named = {event["event"]: event for event in events(watched.dispatcher.stderr) if "event" in event}
    assert named["dispatcher_started"]["api_port"] == watched.api_port
    assert (named["worker_connected"]["worker_id"], named["worker_connected"]["worker_name"]) == (worker_id, "alpha")
    ended = [event for event in events(watched.workers["alpha"].stderr) if event.get("event") == "attempt_ended"]
    assert {(event["task_id"], event["attempt"]) for event in ended} == {(task["id"], 1) for task in tasks}


@pytest.mark.slow
def test_series_grow_with_time(watched: Cluster) -> None:
    """Two samples of the cluster and of the worker come ten seconds apart, and the endings stand in one of them."""
    watched.wait_ended(watched.api.submit("true"))
    worker_id = watched.api.worker_named("alpha")["id"]

    def series() -> tuple[list[dict], list[dict]] | None:
        points = watched.api.get("stats/history", hours=1)["points"]
        vitals = watched.api.get(f"workers/{worker_id}/vitals", hours=1)["points"]
        # A sample may be taken between the two questions.
        is_same_moment = len(vitals) >= 2 and vitals[-1]["at"] == points[-1]["at"]
        return (points, vitals) if is_same_moment else None

    points, vitals = wait_until(series, "two samples", timeout_s=40, describe=watched.describe)
    assert sum(point["completed"] for point in points) == 1
    assert points[-1]["at"] - points[-2]["at"] == 10
    assert points[-1]["workers_connected"] == 1
    assert points[-1]["slots_total"] == 4
    assert vitals[-1]["memory_used_bytes"] > 0
    assert vitals[-1]["round_trip_ms"] > 0
