"""A dispatcher with a long past: real rows of one worker and four tasks, copied until there are many.

The rows are made by the real programs first, so that whatever columns the tables have, they hold what belongs there.
"""

from __future__ import annotations

import random
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster

WEEK_S = 7 * 86_400
SAMPLE_S = 10
KINDS = {"completed": 96.0, "failed": 3.0, "cancelled": 0.7, "queued": 0.3}
"""Per cent of the copies."""
NEVER_RUN = {"memory_mb": 10_000_000}
CHUNK_TASKS = 20_000
Row = dict[str, Any]


def big_cluster(folder: Path, workers: int, tasks: int) -> Cluster:
    """Return a cluster with one worker that works, `workers` that are gone, and `tasks` of the last seven days."""
    cluster = Cluster(folder, OCTASKLY_LOG="warn", OCTASKLY_LEASE_S="30", OCTASKLY_HEARTBEAT_S="5")
    dispatcher = cluster.start_dispatcher()
    cluster.start_worker("alpha", slots=8)
    cluster.wait_connected("alpha")
    templates = ended_tasks(cluster) | {"queued": cluster.api.submit("true", name="too big 1", limits=NEVER_RUN)}
    dispatcher.stop()
    with closing(sqlite3.connect(cluster.db_path)) as database, database:
        ids = _copy_workers(database, workers)
        copy_tasks(database, templates, KINDS, tasks, ids)
        _write_samples(database, ids)
    cluster.start_dispatcher()
    cluster.wait_connected("alpha", timeout_s=60)
    return cluster


def ended_tasks(cluster: Cluster) -> dict[str, str]:
    """Return a task of each kind of end, by status; runs them on a worker that is connected."""
    completed = cluster.api.submit("seq 1 40", name="render frame 1")
    failed = cluster.api.submit("echo 'no such input' >&2; exit 3", name="fetch part 1")
    cluster.wait_ended(completed, failed)
    cancelled = cluster.api.submit("sleep 600", name="train model 1")
    cluster.wait_status(cancelled, "running")
    cluster.api.post(f"tasks/{cancelled}/cancel")
    cluster.wait_ended(cancelled)
    return {"completed": completed, "failed": failed, "cancelled": cancelled}


def _copy_workers(database: sqlite3.Connection, count: int) -> list[str]:
    [template] = _rows(database, "SELECT * FROM workers")
    ids = [str(uuid.uuid4()) for _ in range(count)]
    copies = (
        template | {"id": key, "name": f"pc-{place:03}", "public_key_sha256": f"{place:064x}", "is_connected": 0}
        for place, key in enumerate(ids)
    )
    _insert(database, "workers", copies)
    return [template["id"], *ids]


def copy_tasks(
    database: sqlite3.Connection,
    templates: Mapping[str, str],
    kinds: Mapping[str, float],
    count: int,
    workers: Sequence[str],
) -> None:
    """Write so many copies of the templates with all their rows, spread over the last seven days and these workers.

    `templates` are ids by kind, `kinds` how frequent each is.
    """
    dice = random.Random(7)
    models = {kind: _Model.read(database, templates[kind]) for kind in kinds}
    [[audit_id]] = database.execute("SELECT max(id) FROM audit_log")
    first = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=WEEK_S)
    step = timedelta(seconds=WEEK_S / count * 0.999)
    columns = {table: _columns(database, table) for table in ("tasks", "results", "audit_log")}
    names, weights = [*kinds], [*kinds.values()]
    for start in range(0, count, CHUNK_TASKS):
        places = range(start, min(start + CHUNK_TASKS, count))
        rows = _Copies([], [], [])
        for place, kind, worker in zip(
            places, dice.choices(names, weights, k=len(places)), dice.choices(workers, k=len(places)), strict=True
        ):
            audit_id = models[kind].copy(place, first + place * step, worker, audit_id, rows)
        for table, copies in (("tasks", rows.tasks), ("results", rows.results), ("audit_log", rows.audit)):
            _insert_rows(database, table, columns[table], copies)


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


class _Template:
    """A row that is copied again and again: what stays, and which of its columns are moments that move along."""

    def __init__(self, row: Row, since: datetime) -> None:
        self._values = [*row.values()]
        self._places = {name: place for place, name in enumerate(row)}
        self._moments = [
            (place, datetime.fromisoformat(value) - since)
            for place, (name, value) in enumerate(row.items())
            if value and (name.endswith("_at") or name == "timestamp")
        ]

    def __getitem__(self, name: str) -> Any:
        return self._values[self._places[name]]

    def copy(self, began: datetime, **changes: Any) -> list[Any]:
        """Return the values of a copy that begins then."""
        values = self._values.copy()
        for place, after in self._moments:
            values[place] = (began + after).isoformat(" ")
        for name, value in changes.items():
            values[self._places[name]] = value
        return values


@dataclass(frozen=True, slots=True)
class _Copies:
    """Rows that wait to be written."""

    tasks: list[list[Any]]
    results: list[list[Any]]
    audit: list[list[Any]]


@dataclass(frozen=True, slots=True)
class _Model:
    """A task with its attempts and its story."""

    task: _Template
    attempts: list[_Template]
    story: list[_Template]

    @classmethod
    def read(cls, database: sqlite3.Connection, key: str) -> _Model:
        [task] = _rows(database, "SELECT * FROM tasks WHERE id = ?", key)
        since = datetime.fromisoformat(task["created_at"])
        attempts = _rows(database, "SELECT * FROM results WHERE task_id = ?", key)
        story = _rows(database, "SELECT * FROM audit_log WHERE task_id = ? ORDER BY id", key)
        return cls(
            _Template(task, since),
            [_Template(row, since) for row in attempts],
            [_Template(row, since) for row in story],
        )

    def copy(self, place: int, began: datetime, worker: str, audit_id: int, rows: _Copies) -> int:
        """Add one copy to the rows; return the id of its last row in the trail."""
        key = _task_id(began, place)
        name = self.task["name"] and f"{self.task['name'].rpartition(' ')[0]} {place}"
        ours = self.task["worker_id"] and worker
        rows.tasks.append(self.task.copy(began, id=key, name=name, worker_id=ours))
        for one in self.attempts:
            attempt_id = f"{key}.{one['attempt']}"
            rows.results.append(one.copy(began, attempt_id=attempt_id, task_id=key, worker_id=worker))
        for entry in self.story:
            audit_id += 1
            ours = entry["worker_id"] and worker
            rows.audit.append(entry.copy(began, id=audit_id, task_id=key, worker_id=ours))
        return audit_id


def _task_id(at: datetime, place: int) -> str:
    """Return a UUID version 7 of that moment."""
    milliseconds = int(at.replace(tzinfo=UTC).timestamp() * 1000)
    digits = f"{(milliseconds << 80) | (7 << 76) | (0b10 << 62) | place:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    cursor = database.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608 - our own tables' names
    return [column[0] for column in cursor.description]


def _rows(database: sqlite3.Connection, query: str, *parameters: Any) -> list[Row]:
    cursor = database.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[Row]) -> None:
    first = next(rows)
    _insert_rows(database, table, [*first], (tuple(row.values()) for row in chain([first], rows)))


def _insert_rows(
    database: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    places = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - our own tables' names
    database.executemany(statement, rows)
