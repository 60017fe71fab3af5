"""Writers that are killed at any moment: no task without its row, no row without its task, one trail of all of them."""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.migrated_database import lay_database
from tests.support.programs import ROOT, Program, clean_environment, manage
from tests.support.wait import wait_until

ROUNDS, WRITERS = 4, 3


@pytest.mark.slow
def test_killed_writers_leave_one_whole_trail(tmp_path: Path) -> None:
    """Several processes at once, over several turns of the key, each ended by kill -9 in the middle of its work."""
    path = tmp_path / "data" / "octaskly.db"
    lay_database(path)
    environment = clean_environment(tmp_path, OCTASKLY_DB_PATH=str(path), OCTASKLY_SECRET_KEY="a secret of the tests")
    command = [sys.executable, str(ROOT / "tests" / "support" / "trail_writer.py")]
    chance = random.Random(1)
    for round_number in range(ROUNDS):
        names = [f"writer-{round_number}-{number}" for number in range(WRITERS)]
        writers = [Program(name, [*command, name], tmp_path, environment) for name in names]
        for writer in writers:
            least = chance.randint(3, 25)
            wait_until(
                lambda writer=writer, least=least: writer.stdout.count("\n") >= least, "it writes", timeout_s=120
            )
            writer.process.kill()
            assert writer.process.wait(30) == -9, writer.stderr
    with closing(sqlite3.connect(path)) as database:
        [(tasks, cancelled)] = database.execute("SELECT count(*), sum(status = 'cancelled') FROM tasks")
        events = dict(database.execute("SELECT event_type, count(*) FROM audit_log GROUP BY 1").fetchall())
        [(ones,)] = database.execute(
            "SELECT count(DISTINCT tasks.id) FROM tasks JOIN audit_log ON task_id = tasks.id WHERE event_type = 'task_submitted'"
        )
    assert tasks > 1000
    assert (events["task_submitted"], ones, events["task_cancelled"]) == (tasks, tasks, cancelled)
    done = manage("auditverify", environment=environment)
    assert (done.returncode, f"intact: {sum(events.values())} rows" in done.stdout) == (0, True), done
