"""Backup of a dispatcher at work, restore on another machine, and one dispatcher a database."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from tests.support.cluster import Cluster
from tests.support.programs import ROOT
from tests.support.wait import wait_until


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of a refusal, which is exit code 1."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
    assert lines[0].startswith("octaskly: ")
    return lines[0]


def stop(cluster: Cluster) -> None:
    """End the dispatcher in order."""
    assert cluster.dispatcher is not None
    assert cluster.dispatcher.stop() == 0


class Load:
    """Submits tasks without a pause, in a thread, until the end of the block."""

    def __init__(self, cluster: Cluster) -> None:
        self.ids: list[str] = []
        self._cluster = cluster
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._submit)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _submit(self) -> None:
        while not self._is_over.is_set():
            tasks = [{"command": f"echo {len(self.ids) + number}"} for number in range(10)]
            self.ids += [task["id"] for task in self._cluster.api.post("tasks", tasks)]


def test_a_backup_under_load_restores_on_another_machine(new_cluster: Callable[..., Cluster]) -> None:
    """Every task answered before the backup is in it with its outcome to come; the audit trail verifies there."""
    here: Cluster = new_cluster()
    here.start_dispatcher()
    here.start_worker("alpha", slots=4)
    here.wait_connected("alpha")
    backup = here.folder / "backup.db"
    with Load(here) as load:
        wait_until(lambda: len(load.ids) >= 50, "work has begun", describe=here.describe)
        before = list(load.ids)
        done = here.manage("backup", str(backup))
        during = len(load.ids)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(load.ids) > during, "work goes on", describe=here.describe)
    secret = here.db_path.parent / "secret.key"
    assert str(secret) in done.stderr
    key = secret.read_text().strip()
    assert key not in done.stdout + done.stderr
    assert key.encode() not in backup.read_bytes()
    assert len(done.stdout.splitlines()) == 1
    with closing(sqlite3.connect(f"file:{backup}?mode=ro&immutable=1", uri=True)) as copy:
        [(stored,)] = copy.execute("SELECT count(*) FROM tasks").fetchall()
    assert f"{stored} tasks" in done.stdout
    stop(here)

    there: Cluster = new_cluster()
    there.db_path.parent.mkdir(mode=0o700)
    assert "secret.key is missing" in complaint(there.manage("restore", str(backup)))
    (there.db_path.parent / "secret.key").write_text("another key of good length")
    (there.db_path.parent / "secret.key").chmod(0o600)
    assert "secret key" in complaint(there.manage("restore", str(backup)))
    assert not there.db_path.exists()
    shutil.copy2(secret, there.db_path.parent)
    restored = there.manage("restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    assert f"{stored} tasks" in restored.stdout
    assert there.manage("auditverify").returncode == 0
    there.start_dispatcher()
    assert there.rows("SELECT count(*) FROM tasks") == [(stored,)]
    assert set(before) <= {row[0] for row in there.rows("SELECT id FROM tasks")}
    there.start_worker("beta", slots=4)
    there.wait_connected("beta")
    tasks = there.wait_ended(*before, timeout_s=60)
    assert [task["stdout"] for task in tasks] == [f"{number}\n" for number in range(len(before))]
    assert there.manage("auditverify").returncode == 0


def test_restore_is_refused_beside_a_dispatcher_and_keeps_the_former_database(cluster: Cluster) -> None:
    """While it runs, nothing; after it, only with --force, and then nothing is thrown away."""
    first = cluster.api.submit("echo first")
    backup = cluster.folder / "backup.db"
    assert cluster.manage("backup", str(backup)).returncode == 0
    second = cluster.api.submit("echo second")
    assert "in use by another dispatcher" in complaint(cluster.manage("restore", "--force", str(backup)))
    assert cluster.api.task(second)["status"] == "queued"

    stop(cluster)
    assert "--force" in complaint(cluster.manage("restore", str(backup)))
    done = cluster.manage("restore", str(backup), "--force")
    assert done.returncode == 0, done.stderr
    [former] = cluster.db_path.parent.glob("octaskly.db.before-restore-*Z")
    assert str(former) in done.stdout
    with closing(sqlite3.connect(former)) as database:
        assert {row[0] for row in database.execute("SELECT id FROM tasks")} == {first, second}
    cluster.start_dispatcher()
    assert cluster.rows("SELECT id FROM tasks") == [(first,)]


def test_a_second_dispatcher_on_a_database_is_refused(cluster: Cluster, new_cluster: Callable[..., Cluster]) -> None:
    """One clear line, by whatever path it comes; the first goes on; kill -9 of it makes room."""
    second: Cluster = new_cluster()
    link = second.folder / "link.db"
    link.symlink_to(cluster.db_path)
    for path in (cluster.db_path, link):
        # The link has a folder, and so a key file, of its own: the lock is asked first.
        second.environment["OCTASKLY_DB_PATH"] = str(path)
        refused = second.start_dispatcher(wait=False)
        assert refused.wait() == 1
        assert refused.stderr == f"octaskly: --db-path: {path} is in use by another dispatcher\n"
    assert cluster.api.submit("echo still here")
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    second.environment["OCTASKLY_DB_PATH"] = str(cluster.db_path)
    second.start_dispatcher()


def test_backup_refuses_with_one_line(cluster: Cluster) -> None:
    """What cannot be written, or must not be, is named; what stands there stays."""
    folder = cluster.folder
    backup = folder / "backup.db"
    assert cluster.manage("backup", str(backup)).returncode == 0
    first = backup.read_bytes()
    cluster.api.submit("echo one")
    for path, word in [
        (backup, "exists already"),
        (folder, "is a folder"),
        (folder / "none" / "backup.db", str(folder / "none")),
        (cluster.db_path, "the database itself"),
        (Path("/proc/backup.db"), "/proc"),
    ]:
        assert word in complaint(cluster.manage("backup", str(path)))
    assert backup.read_bytes() == first
    done = cluster.manage("backup", "--force", str(backup))
    assert (done.returncode, "1 task" in done.stdout) == (0, True), done
    assert cluster.manage("backup").returncode == 2
    assert cluster.manage("restore", str(backup), "--no-such-flag").returncode == 2
    gone = cluster.manage("backup", str(folder / "other.db"), "--db-path", str(folder / "none.db"))
    assert str(folder / "none.db") in complaint(gone)
    assert [path.name for path in folder.glob("*.db*")] == ["backup.db"]


def test_a_backup_stopped_by_a_signal_leaves_nothing(cluster: Cluster) -> None:
    """SIGINT and SIGTERM in the middle of the copying: one line, exit code 1, no half file."""
    for _ in range(3):
        cluster.api.post("tasks", [{"command": "true", "env": {"FILLER": "x" * 2000}}] * 5000)
    for number in (signal.SIGINT, signal.SIGTERM):
        out = cluster.folder / f"out-{number}"
        out.mkdir()
        program = cluster.run(f"backup-{number}", [sys.executable, "manage.py", "backup", str(out / "copy.db")])
        wait_until(lambda out=out: any(out.iterdir()), "the draft is there", describe=program.tail)
        program.process.send_signal(number)
        code = program.wait()
        assert (code, list(out.iterdir())) == (1, []), program.tail()
        assert program.stderr == "octaskly: stopped; nothing has been changed\n"


def test_a_full_queue_is_told_to_come_back_later(new_cluster: Callable[..., Cluster]) -> None:
    """OCTASKLY_MAX_QUEUED_TASKS: over it 429 with Retry-After, all or none; room again once tasks have run."""
    cluster: Cluster = new_cluster(OCTASKLY_MAX_QUEUED_TASKS="3")
    cluster.start_dispatcher()
    ids = [cluster.api.submit(f"echo {number}") for number in range(2)]
    answers: list[Any] = [
        cluster.api.http.post("/api/v1/tasks", json=[{"command": "echo too many"}] * 2),
        cluster.api.http.post("/api/v1/tasks", json={"command": "echo the third"}),
        cluster.api.http.post("/api/v1/tasks", json={"command": "echo the fourth"}),
    ]
    assert [answer.status_code for answer in answers] == [429, 201, 429]
    assert int(answers[2].headers["Retry-After"]) > 0
    assert answers[2].headers["Content-Type"] == "application/problem+json"
    assert cluster.rows("SELECT count(*) FROM tasks") == [(3,)]
    cluster.start_worker("alpha")
    cluster.wait_ended(*ids)
    assert cluster.api.submit("echo room again")

    refused = subprocess.run(
        [sys.executable, "manage.py", "rundispatcher"],
        check=False,
        cwd=ROOT,
        env={**new_cluster().environment, "OCTASKLY_MAX_QUEUED_TASKS": "0"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode == 2
    assert "OCTASKLY_MAX_QUEUED_TASKS" in refused.stderr
