"""Whether a million tasks, finished, queued or paused, slow anything down: measured beside an empty database.

    .venv/bin/python -m benchmarks.growth [--tasks 1000000] [--folder FOLDER]

Real rows are copied until there are so many, with three audit rows and a result for each task that ran. Then a real
dispatcher starts over them, pages and lists are asked for, 10,000 short tasks are submitted, and a worker begins to run
what is queued. With a folder the databases are kept for the next time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import psutil

from benchmarks.big_cluster import copy_tasks, ended_tasks
from benchmarks.figures import DEFAULTS, MIB, Target, judge, percentile
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.wait import wait_until
from tests.support.web_session import signed_in

KINDS: Final = {
    "empty": {},
    "finished": {"completed": 96.3, "failed": 3.0, "cancelled": 0.7},
    "queued": {"queued": 100.0},
}
"""The databases, and what they are full of in per cent."""
SCENES: Final = {"empty": "empty", "finished": "finished", "queued": "queued", "paused": "queued"}
"""What is measured, and over which database. Paused tasks have failed once and will be tried again later."""
LONGEST_PAUSE_S = 295
SHORT_TASK = {"command": "true", "sandbox": "basic"}
SUBMITTED = 10_000
FIRST_ENDED = 600
"""Not measured: the worker has just begun."""
WINDOW, WINDOWS = 3_000, 3
SLOTS = 4
LOOK_S = 0.02
ROUNDS = 20
ROUNDS_BEFORE = 3
"""Not counted: code and caches get warm."""
MAX_START_S, MAX_GROWTH_MB, MIN_SPEED, MAX_ANSWER_MS = 5.0, 100.0, 0.8, 100.0
ENDED_QUERY = "SELECT SUM(completed + failed + cancelled) FROM task_counts"


@dataclass(slots=True)
class Measured:
    """What one scene gave."""

    start_s: float = 0.0
    started_mb: float = 0.0
    ended_mb: float = 0.0
    submit_s: float = 0.0
    rate: float = 0.0
    cpu_us: float = 0.0
    """Of the dispatcher, a task."""
    answers_ms: dict[str, float] = field(default_factory=dict)
    """95th percentiles, by what was asked for."""


def build(folder: Path, tasks: int) -> None:
    """Make what is not in the folder yet: a cluster that has run a little, and its database filled with so many tasks."""
    origin, notes = folder / "origin", folder / "templates.json"
    if not notes.exists():
        shutil.rmtree(origin, ignore_errors=True)
        origin.mkdir(parents=True)
        notes.write_text(json.dumps(_run_templates(Cluster(origin, **DEFAULTS))))
    templates = json.loads(notes.read_text())
    for name, kinds in KINDS.items():
        path, began = _database(folder, name, tasks), time.monotonic()
        if path.exists():
            continue
        unfinished = path.with_suffix(".new")
        shutil.copyfile(origin / "data" / "octaskly.db", unfinished)
        with closing(sqlite3.connect(unfinished)) as database:
            database.execute("PRAGMA journal_mode = OFF")
            with database:
                [[worker]] = database.execute("SELECT id FROM workers")
                if kinds:
                    copy_tasks(database, templates, kinds, tasks, [worker])
        unfinished.rename(path)
        print(f"{name}: {path.stat().st_size / MIB:,.0f} MB made in {time.monotonic() - began:.0f} s", flush=True)


def _database(folder: Path, name: str, tasks: int) -> Path:
    return folder / f"{name}-{tasks}.db"


def _run_templates(cluster: Cluster) -> dict[str, str]:
    try:
        dispatcher = cluster.start_dispatcher()
        worker = cluster.start_worker("alpha", "--min-sandbox", "basic", slots=SLOTS)
        cluster.wait_connected("alpha")
        templates = ended_tasks(cluster)
        worker.stop()
        templates["queued"] = cluster.api.post("tasks", SHORT_TASK)["id"]
        dispatcher.stop()
        return templates
    finally:
        cluster.close()


def measure(folder: Path, scene: str, tasks: int) -> Measured:
    """Measure over a copy of the scene's database."""
    place = folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "origin", place)
    limits = {"OCTASKLY_MAX_QUEUED_TASKS": str(2 * tasks + SUBMITTED)}
    cluster = Cluster(place, **(DEFAULTS | limits))
    shutil.copyfile(_database(folder, SCENES[scene], tasks), cluster.db_path)
    if scene == "paused":
        _pause(cluster.db_path)
    measured = Measured()
    try:
        began = time.perf_counter()
        dispatcher = cluster.start_dispatcher(wait=False)
        cluster.wait_healthy()
        measured.start_s = time.perf_counter() - began
        process = psutil.Process(dispatcher.pid)
        measured.started_mb = process.memory_info().rss / MIB
        cluster.api.login("admin", ADMIN_PASSWORD)
        measured.answers_ms = _ask(cluster)
        began = time.perf_counter()
        cluster.api.post("tasks", [SHORT_TASK] * SUBMITTED)
        measured.submit_s = time.perf_counter() - began
        measured.rate, measured.cpu_us = _drain(cluster, process)
        measured.ended_mb = process.memory_info().rss / MIB
    finally:
        cluster.close()
        shutil.rmtree(place, ignore_errors=True)
    return measured


def _pause(path: Path) -> None:
    """Make all queued tasks ones that have failed and wait for their next attempt."""
    until = (datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=LONGEST_PAUSE_S)).isoformat(" ")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = MEMORY")
        database.execute(
            "UPDATE tasks SET attempt = 1, failures = 1, available_at = ?, is_paused = 1 WHERE status = 'queued'",
            [until],
        )


def _drain(cluster: Cluster, process: psutil.Process) -> tuple[float, float]:
    """Return how many tasks end in a second once a worker is there, median of some windows, and what one costs in µs."""
    cluster.start_worker("alpha", "--min-sandbox", "basic", slots=SLOTS)
    rates, costs = [], []
    with closing(sqlite3.connect(f"file:{cluster.db_path}?mode=ro", uri=True, timeout=10)) as database:

        def ended() -> int:
            return int(database.execute(ENDED_QUERY).fetchone()[0])

        goal = ended() + FIRST_ENDED
        wait_until(lambda: ended() >= goal, "the first tasks ended", timeout_s=60, describe=cluster.describe)
        for _ in range(WINDOWS):
            before, began, used = ended(), time.perf_counter(), sum(process.cpu_times()[:2])
            while (count := ended() - before) < WINDOW:
                time.sleep(LOOK_S)
            rates.append(count / (time.perf_counter() - began))
            costs.append((sum(process.cpu_times()[:2]) - used) / count * 1e6)
    return statistics.median(rates), statistics.median(costs)


def _ask(cluster: Cluster) -> dict[str, float]:
    answers = {}
    worker = cluster.rows("SELECT id FROM workers")[0][0]
    with signed_in(cluster.url, "admin", ADMIN_PASSWORD) as http:
        http.headers["Accept"] = "application/json, text/html;q=0.9"
        for address in _addresses(worker, http.get("/api/v1/tasks").json()["next"]):
            answers[_shown(address)] = _p95_ms(http, "GET", address)
    answers["POST /api/v1/tasks"] = _p95_ms(cluster.api.http, "POST", "/api/v1/tasks")
    return answers


def _addresses(worker: str, second_page: str | None) -> list[str]:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    return [
        "/api/v1/tasks",
        *([second_page] if second_page else []),
        *(f"/api/v1/tasks?status={status}" for status in ("queued", "running", "completed", "failed")),
        "/api/v1/tasks?name=fetch+part+4242",
        "/api/v1/tasks?name=nobody+called+it+so",
        f"/api/v1/tasks?worker_id={worker}",
        "/api/v1/tasks?worker_id=nobody",
        "/api/v1/tasks?owner=admin",
        "/api/v1/tasks?owner=admin&status=failed",
        f"/api/v1/tasks?created_after={yesterday}",
        f"/api/v1/tasks?created_before={yesterday}",
        "/api/v1/tasks?ordering=-priority",
        "/api/v1/workers",
        "/api/v1/audit",
        "/api/v1/audit?event_type=task_finished",
        f"/api/v1/audit?timestamp_before={yesterday}",
        f"/api/v1/audit?timestamp_after={yesterday}",
        "/api/v1/stats",
        "/api/v1/stats/history?hours=1",
        "/metrics",
        "/",
        "/tasks/",
        "/tasks/?status=failed",
        "/tasks/?q=nobody+called+it+so",
        f"/tasks/?worker_id={worker}",
        "/workers/",
        f"/workers/{worker}/",
        "/audit/",
        "/admin/audit_app/auditentry/",
    ]


def _shown(address: str) -> str:
    path, _, query = address.partition("?")
    if "cursor=" in query:
        return "/api/v1/tasks, second page"
    return f"{path}?{query}"[:42] if query else path[:42]


def _p95_ms(http: httpx.Client, method: str, address: str) -> float:
    times = []
    for _ in range(ROUNDS_BEFORE + ROUNDS):
        began = time.perf_counter()
        answer = http.request(method, address, json=SHORT_TASK if method == "POST" else None)
        times.append((time.perf_counter() - began) * 1000)
        if not answer.is_success:
            raise RuntimeError(f"{address}: {answer.status_code} {answer.text[:300]}")
    return percentile(times[ROUNDS_BEFORE:], 95)


def report(all_measured: dict[str, Measured], tasks: int) -> int:
    """Print the tables; return the exit code, 1 when a target was missed."""
    empty = all_measured["empty"]
    lines = {
        "start until /health, s": lambda one: one.start_s,
        "dispatcher after the start, MB": lambda one: one.started_mb,
        "dispatcher after the run, MB": lambda one: one.ended_mb,
        f"POST of {SUBMITTED:,} tasks, s": lambda one: one.submit_s,
        "tasks ended a second": lambda one: one.rate,
        "of the empty database's rate": lambda one: one.rate / empty.rate,
        "dispatcher's cpu a task, µs": lambda one: one.cpu_us,
    }
    print(f"\n{f'{tasks:,} tasks':44}" + "".join(f"{name:>11}" for name in all_measured))
    for text, value in lines.items():
        print(f"{text:44}" + "".join(f"{value(one):11.2f}" for one in all_measured.values()))
    print("\np95 of answers, ms")
    for text in dict.fromkeys(text for one in all_measured.values() for text in one.answers_ms):
        print(f"{text:44}" + "".join(f"{one.answers_ms.get(text, 0):11.1f}" for one in all_measured.values()))
    targets = []
    for name, one in all_measured.items():
        slowest = max(one.answers_ms, key=lambda text: one.answers_ms[text])
        targets += [
            Target(f"{name}: start, s", one.start_s, MAX_START_S, is_ceiling=True),
            Target(f"{name}: {slowest[:34]}, ms", one.answers_ms[slowest], MAX_ANSWER_MS, is_ceiling=True),
        ]
        if one is not empty:
            targets += [
                Target(f"{name}: rate beside empty", one.rate / empty.rate, MIN_SPEED),
                Target(
                    f"{name}: memory beside empty, MB", one.ended_mb - empty.ended_mb, MAX_GROWTH_MB, is_ceiling=True
                ),
            ]
    return judge(targets)


def main() -> int:
    """Measure from the command line; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keeps the databases, 3 GB, for the next time")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=[*SCENES])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="octaskly-growth-") as temporary:
        folder = options.folder or Path(temporary)
        build(folder, options.tasks)
        scenes = ["empty", *(scene for scene in options.scenes if scene != "empty")]
        return report({scene: measure(folder, scene, options.tasks) for scene in scenes}, options.tasks)


if __name__ == "__main__":
    sys.exit(main())
