"""A dispatcher with a long past: real rows of one worker and four tasks, copied until there are many.

The rows are made by the real programs first, so that whatever columns the tables have, they hold what belongs there.
"""

from __future__ import annotations

import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster

WEEK_S = 7 * 86_400
SAMPLE_S = 10
KINDS = {"completed": 96.0, "failed": 3.0, "cancelled": 0.7, "queued": 0.3}
"""Per cent of the copies."""
NEVER_RUN = {"memory_mb": 10_000_000}
Row = dict[str, Any]


def big_cluster(folder: Path, workers: int, tasks: int) -> Cluster:
    """Return a cluster with one worker that works, `workers` that are gone, and `tasks` of the last seven days."""
    cluster = Cluster(folder, OCTASKLY_LOG="warn", OCTASKLY_LEASE_S="30", OCTASKLY_HEARTBEAT_S="5")
    dispatcher = cluster.start_dispatcher()
    cluster.start_worker("alpha", slots=8)
    cluster.wait_connected("alpha")
    templates = _one_of_each(cluster)
    dispatcher.stop()
    with closing(sqlite3.connect(cluster.db_path)) as database, database:
        ids = _copy_workers(database, workers)
        _copy_tasks(database, templates, tasks, ids)
        _write_samples(database, ids)
    with closing(sqlite3.connect(cluster.db_path)) as database:
        database.execute("ANALYZE")
    cluster.start_dispatcher()
    cluster.wait_connected("alpha", timeout_s=60)
    return cluster


def _one_of_each(cluster: Cluster) -> dict[str, str]:
    completed = cluster.api.submit("seq 1 40", name="render frame 1")
    failed = cluster.api.submit("echo 'no such input' >&2; exit 3", name="fetch part 1")
    cluster.wait_ended(completed, failed)
    cancelled = cluster.api.submit("sleep 600", name="train model 1")
    cluster.wait_status(cancelled, "running")
    cluster.api.post(f"tasks/{cancelled}/cancel")
    cluster.wait_ended(cancelled)
    queued = cluster.api.submit("true", name="too big 1", limits=NEVER_RUN)
    return {"completed": completed, "failed": failed, "cancelled": cancelled, "queued": queued}


def _copy_workers(database: sqlite3.Connection, count: int) -> list[str]:
    [template] = _rows(database, "SELECT * FROM workers")
    ids = [str(uuid.uuid4()) for _ in range(count)]
    copies = (
        template | {"id": key, "name": f"pc-{place:03}", "public_key_sha256": f"{place:064x}", "is_connected": 0}
        for place, key in enumerate(ids)
    )
    _insert(database, "workers", copies)
    return [template["id"], *ids]


def _copy_tasks(database: sqlite3.Connection, templates: dict[str, str], count: int, workers: list[str]) -> None:
    dice = random.Random(7)
    models = {
        kind: (
            _rows(database, "SELECT * FROM tasks WHERE id = ?", key)[0],
            _rows(database, "SELECT * FROM results WHERE task_id = ?", key),
            _rows(database, "SELECT * FROM audit_log WHERE task_id = ? ORDER BY id", key),
        )
        for kind, key in templates.items()
    }
    [[audit_id]] = database.execute("SELECT max(id) FROM audit_log")
    first = time.time() - WEEK_S
    tasks: list[Row] = []
    results: list[Row] = []
    audit: list[Row] = []
    for place in range(count):
        kind = dice.choices([*KINDS], [*KINDS.values()])[0]
        task, attempts, story = models[kind]
        began_at = first + place * WEEK_S / count * 0.999
        key, worker = _task_id(began_at, place), dice.choice(workers)
        later = _mover(task["created_at"], began_at)
        name = f"{task['name'].rpartition(' ')[0]} {place}"
        tasks.append(later(task) | {"id": key, "name": name, "worker_id": task["worker_id"] and worker})
        for one in attempts:
            attempt_id = f"{key}.{one['attempt']}"
            results.append(later(one) | {"attempt_id": attempt_id, "task_id": key, "worker_id": worker})
        for entry in story:
            audit_id += 1
            audit.append(later(entry) | {"id": audit_id, "task_id": key, "worker_id": entry["worker_id"] and worker})
    for table, rows in (("tasks", tasks), ("results", results), ("audit_log", audit)):
        _insert(database, table, iter(rows))


def _write_samples(database: sqlite3.Connection, workers: list[str]) -> None:
    """Write an hour of measurements for everybody."""
    now = int(time.time()) // SAMPLE_S * SAMPLE_S
    moments = [now - SAMPLE_S * back for back in range(360, 3, -1)]
    dice = random.Random(11)
    _insert(
        database,
        "worker_samples",
        (
            {
                "step_s": SAMPLE_S, "samples": 1, "at": at, "worker_id": worker, "cpu_percent": dice.random() * 100,
                "cpu_percent_max": 100, "memory_used_bytes": 4e9, "memory_used_bytes_max": 4.1e9,
                "disk_free_bytes": 5e10, "load_1m": dice.random() * 4, "slots_used": dice.randint(0, 8),
                "round_trip_ms": 1.5,
            }
            for worker in workers
            for at in moments
        ),
    )  # fmt: skip
    _insert(
        database,
        "cluster_samples",
        (
            {
                "step_s": SAMPLE_S, "samples": 1, "at": at, "queued": dice.randint(0, 300), "running": 200,
                "slots_used": 200, "slots_total": 808, "workers_connected": 101, "cpu_percent": dice.random() * 50,
                "memory_mb": 180, "database_mb": 400, "completed": dice.randint(0, 90), "failed": 1, "cancelled": 0,
                "commits": 10, "commit_seconds": 0.02, "starts": 10, "queue_wait_seconds": 1.5,
            }
            for at in moments
        ),
    )  # fmt: skip


def _task_id(at: float, place: int) -> str:
    """Return a UUID version 7 of that moment."""
    return str(uuid.UUID(int=(int(at * 1000) << 80) | (7 << 76) | (0b10 << 62) | place))


def _mover(from_text: str, to: float) -> Callable[[Row], Row]:
    """Return what moves all moments of a row by the same time."""
    by = datetime.fromtimestamp(to, UTC).replace(tzinfo=None) - datetime.fromisoformat(from_text)

    def move(row: Row) -> Row:
        return row | {
            name: (datetime.fromisoformat(value) + by).isoformat(" ")
            for name, value in row.items()
            if value and (name.endswith("_at") or name == "timestamp")
        }

    return move


def _rows(database: sqlite3.Connection, query: str, *parameters: Any) -> list[Row]:
    cursor = database.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[Row]) -> None:
    first = next(rows)
    names, places = ", ".join(first), ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - our own tables' names
    database.execute(statement, first)
    database.executemany(statement, rows)
