"""A dispatcher that starts over a database of a hundred thousand tasks."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from tests.chaos.checker import BALLAST
from tests.chaos.field import Field
from tests.chaos.load import Pace
from tests.chaos.scenarios import Form

ROWS = 100_000
TARGET_S = 3.0
LIMIT_S = 10.0
"""The target is told; a start that takes this long fails on any machine."""
IMPOSSIBLE_MEMORY_MB = 1 << 24


def restart_time(scene: Field, form: Form) -> None:
    """Kill -9 under load with half of the rows ended and half queued, start, and take the time."""
    scene.begin("ant")
    scene.client().submit([scene.ledger.new_task()])
    scene.wait_all_ended()
    assert scene.dispatcher is not None
    scene.stop(scene.dispatcher)
    _fill(scene)
    scene.raise_dispatcher()
    for _ in range(form.pick(2, 6)):
        scene.wait_connected("ant")
        load = scene.start_load(Pace(40, 2, longest_sleep_s=1.0))
        scene.pause_for(scene.random.uniform(0.5, 1.5))
        scene.kill(scene.dispatcher)
        began = time.monotonic()
        scene.raise_dispatcher()
        healthy_s = time.monotonic() - began
        scene.wait_connected("ant")
        connected_s = time.monotonic() - began
        word = "met" if healthy_s < TARGET_S else "MISSED"
        scene.notes.append(
            f"{ROWS:,} tasks: /health and a login after {healthy_s:.2f} s (target {TARGET_S:g} s: {word}),"
            f" a worker after {connected_s:.2f} s"
        )
        scene.expect(healthy_s < LIMIT_S, f"the start took {healthy_s:.1f} s")
        load.finish()


def _fill(scene: Field) -> None:
    """Multiply the one task that there is; the dispatcher does not run."""
    ended, queued = ROWS // 2, ROWS - ROWS // 2
    with closing(sqlite3.connect(scene.db_path)) as database, database:
        database.row_factory = sqlite3.Row
        task = dict(database.execute("SELECT * FROM tasks").fetchone())
        result = dict(database.execute("SELECT * FROM results").fetchone())
        task["name"] = BALLAST
        # Ids like the real ones, all before those that come.
        ids = [f"{task['id'][:1]}0000000-0000-7000-8000-{number:012x}" for number in range(ROWS)]
        _insert(database, "tasks", [task | {"id": task_id} for task_id in ids[:ended]])
        _insert(
            database,
            "results",
            [result | {"attempt_id": f"{task_id}.1", "task_id": task_id} for task_id in ids[:ended]],
        )
        waiting = task | {
            "status": "queued", "worker_id": None, "attempt": 0, "started_at": None, "completed_at": None,
            "exit_code": None, "duration_ms": None, "priority": -100,
            "limits": f'{{"memory_mb": {IMPOSSIBLE_MEMORY_MB}}}',
        }  # fmt: skip
        _insert(database, "tasks", [waiting | {"id": task_id} for task_id in ids[ended:]])
    scene.ballast = queued
    scene.tell(f"{ended} ended and {queued} queued tasks were put into the database")


def _insert(database: sqlite3.Connection, table: str, rows: list[dict]) -> None:
    columns = ", ".join(rows[0])
    marks = ", ".join(f":{column}" for column in rows[0])
    database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
