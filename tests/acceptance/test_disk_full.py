"""The disk of the database is full: what is stored can be read, nothing is lost, and room alone mends it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import ADMIN_PASSWORD, FAST_LEASES, Cluster
from tests.support.programs import manage, new_mark, processes_with, sleepers, wake
from tests.support.small_disk import SmallDisk
from tests.support.wait import wait_until

LEASE_AND_GRACE_S = float(FAST_LEASES["OCTASKLY_LEASE_S"]) + float(FAST_LEASES["OCTASKLY_RECONNECT_GRACE_S"])


@pytest.fixture
def cluster_on(disk: SmallDisk, new_cluster: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Starts a dispatcher whose database lies on the small disk, and whose worker has another one."""

    def start(**variables: str) -> Cluster:
        cluster = new_cluster(OCTASKLY_DB_PATH=str(disk.folder / "octaskly.db"), **variables)
        cluster.db_path = disk.folder / "octaskly.db"
        cluster.start_dispatcher()
        return cluster

    return start


class Work:
    """Four tasks that each wait to be let go, once; two of them run at first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._marks = [new_mark() for _ in range(4)]
        cluster.start_worker("steady", slots=2)
        cluster.wait_connected("steady")
        commands = [{"command": f"sleep {mark}; echo over"} for mark in self._marks]
        self.ids = [task["id"] for task in cluster.api.post("tasks", commands)]
        for task_id, mark in zip(self.ids[:2], self._marks, strict=False):
            cluster.wait_status(task_id, "running")
            self._wait_asleep(mark)

    def let_go(self) -> None:
        """Let the two end that run at first."""
        for mark in self._marks[:2]:
            assert wake(mark) == 1

    def check_each_ran_once(self) -> None:
        """Every task ended well, at its first attempt; a command that began again would sleep."""
        for mark in self._marks[2:]:
            self._wait_asleep(mark)
            assert wake(mark) == 1
        tasks = self._cluster.wait_ended(*self.ids)
        assert {(task["status"], task["stdout"], task["attempt"]) for task in tasks} == {("completed", "over\n", 1)}
        assert not any(map(processes_with, self._marks))
        assert self._cluster.rows("SELECT max(losses), max(failures) FROM tasks") == [(0, 0)]
        assert self._cluster.manage("auditverify").returncode == 0

    def _wait_asleep(self, mark: str) -> None:
        wait_until(lambda: sleepers(mark), "a command waits", describe=self._cluster.describe)


def health(cluster: Cluster) -> int:
    """Return the status of /health."""
    answer = cluster.api.http.get("/health")
    assert answer.json()["status"] == ("ok" if answer.status_code == 200 else "unavailable")
    return answer.status_code


@contextmanager
def web_session(cluster: Cluster) -> Iterator[httpx.Client]:
    """Give a browser that is signed in to the admin."""
    with httpx.Client(base_url=cluster.url, timeout=30, trust_env=False) as browser:
        page = browser.get("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {"username": "admin", "password": ADMIN_PASSWORD, "csrfmiddlewaretoken": token[1]}
        assert browser.post("/login/", data=form, headers={"Referer": cluster.url}).status_code == 302
        yield browser


def check_reading_goes_on(cluster: Cluster, browser: httpx.Client, work: Work) -> None:
    """Every kind of reading: REST with a token, the raw output, pages of the admin, the sign-in page."""
    assert len(cluster.api.get("tasks")["results"]) == 4
    assert cluster.api.task(work.ids[0])["attempt"] == 1
    assert len(cluster.api.attempts(work.ids[0])) == 1
    assert cluster.api.get("stats")
    assert cluster.api.workers()
    assert cluster.api.get("audit")
    for page in ("/admin/", "/admin/tasks_app/task/", f"/admin/tasks_app/task/{work.ids[0]}/change/"):
        assert browser.get(page).status_code == 200, page
    assert httpx.get(f"{cluster.url}/login/", trust_env=False).status_code == 200


def check_writing_is_refused(cluster: Cluster, browser: httpx.Client, work: Work) -> None:
    """Whatever would write says in plain words why not, and when to come back."""
    for method, path in [("POST", "tasks"), ("POST", f"tasks/{work.ids[3]}/cancel"), ("POST", "join-tokens")]:
        answer = cluster.api.http.request(method, f"/api/v1/{path}", json={"command": "echo no"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10"), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == 503
        assert re.search("disk .*is full.*nothing was stored", answer.json()["detail"])
    page = browser.post("/admin/tasks_app/task/", data={"action": "cancel"})
    assert (page.status_code, page.headers["Retry-After"]) == (503, "10")
    assert page.headers["Content-Type"].startswith("text/html")
    assert re.search("disk .*is full.*nothing was stored", page.text)


def test_a_full_disk_makes_the_dispatcher_read_only_until_there_is_room(
    cluster_on: Callable[..., Cluster], disk: SmallDisk
) -> None:
    """Full for longer than lease and grace: tasks run on, end, are reported once there is room, and run once."""
    cluster = cluster_on(OCTASKLY_DISK_RESERVE_MB="4")
    work = Work(cluster)
    with web_session(cluster) as browser:
        disk.fill()
        full_since = time.monotonic()
        wait_until(lambda: health(cluster) == 503, "/health notices", timeout_s=5, describe=cluster.describe)
        check_writing_is_refused(cluster, browser, work)
        # Leases would have run out in the meantime, if they ran.
        wait_until(lambda: time.monotonic() > full_since + LEASE_AND_GRACE_S + 2, "leases have had their time")
        check_reading_goes_on(cluster, browser, work)
        work.let_go()
        wait_until(
            lambda: cluster.api.task(work.ids[0])["status"] == "completed" or "waiting for it" in stderr_of(cluster),
            "an outcome has come",
            describe=cluster.describe,
        )
        check_reading_goes_on(cluster, browser, work)
        assert health(cluster) == 503
        disk.make_room()
        wait_until(lambda: health(cluster) == 200, "/health notices", timeout_s=10, describe=cluster.describe)
        assert cluster.api.submit("echo room again")
    work.check_each_ran_once()
    wait_until(lambda: "There is room again" in stderr_of(cluster), "it is told", describe=cluster.describe)
    assert stderr_of(cluster).count("Read-only until there is room") == 1
    assert stderr_of(cluster).count("There is room again") == 1


@pytest.mark.slow
def test_without_a_reserve_the_writers_word_counts(cluster_on: Callable[..., Cluster], disk: SmallDisk) -> None:
    """OCTASKLY_DISK_RESERVE_MB=0: work is taken to the last page; the first write that fails ends that."""
    cluster = cluster_on(OCTASKLY_DISK_RESERVE_MB="0")
    work = Work(cluster)
    with web_session(cluster) as browser:
        disk.fill()
        full_since = time.monotonic()
        # SQLite's files have some room inside: take that too.
        big = [{"command": "true", "limits": {"memory_mb": 1 << 24}, "env": {"FILLER": "x" * 2000}}] * 50
        answers = [201]
        while answers[-1] == 201:
            answers.append(cluster.api.http.post("/api/v1/tasks", json=big).status_code)
        assert answers[-1] == 503
        work.let_go()
        wait_until(lambda: health(cluster) == 503, "/health notices", timeout_s=20, describe=cluster.describe)
        check_writing_is_refused(cluster, browser, work)
        wait_until(lambda: time.monotonic() > full_since + LEASE_AND_GRACE_S + 2, "leases have had their time")
        assert cluster.api.task(work.ids[0])["attempt"] == 1
        assert browser.get("/admin/tasks_app/task/").status_code == 200
        disk.make_room()
        wait_until(lambda: health(cluster) == 200, "/health notices", timeout_s=10, describe=cluster.describe)
    work.check_each_ran_once()
    assert cluster.rows("SELECT count(*) FROM tasks") == [(len(work.ids) + len(big) * (answers.count(201) - 1),)]


def test_on_a_full_disk_a_dispatcher_can_be_restarted(cluster_on: Callable[..., Cluster], disk: SmallDisk) -> None:
    """kill -9 while it is full: the next one starts, or ends with one line; with room it takes over what runs."""
    cluster = cluster_on(OCTASKLY_DISK_RESERVE_MB="4")
    work = Work(cluster)
    disk.fill()
    wait_until(lambda: health(cluster) == 503, "/health notices", timeout_s=5, describe=cluster.describe)
    assert cluster.dispatcher is not None
    cluster.dispatcher.kill()
    again = cluster.start_dispatcher(wait=False)

    def answers() -> bool:
        try:
            return not again.is_running or health(cluster) == 503
        except httpx.TransportError:
            return False

    wait_until(answers, "it reads, or has said why not", timeout_s=45, describe=cluster.describe)
    if again.is_running:
        assert len(cluster.api.get("tasks")["results"]) == 4
        disk.make_room()
        wait_until(lambda: health(cluster) == 200, "/health notices", timeout_s=10, describe=cluster.describe)
    else:
        assert re.fullmatch(r"octaskly: --db-path: .*octaskly\.db.*\n", again.stderr)
        disk.make_room()
        cluster.start_dispatcher()
    work.let_go()
    work.check_each_ran_once()


def test_a_backup_to_a_full_disk_is_one_line_and_no_file(
    cluster_on: Callable[..., Cluster], disk: SmallDisk, tmp_path: Path
) -> None:
    """From the full disk elsewhere it works: that is when one is wanted."""
    cluster = cluster_on(OCTASKLY_DISK_RESERVE_MB="4")
    disk.fill()
    wait_until(lambda: health(cluster) == 503, "/health notices", timeout_s=5, describe=cluster.describe)
    refused = cluster.manage("backup", str(disk.folder / "copy.db"))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused
    assert str(disk.folder / "copy.db") in refused.stderr
    assert not [path for path in disk.folder.iterdir() if "copy.db" in path.name]
    done = manage("backup", str(tmp_path / "copy.db"), environment=cluster.environment)
    assert done.returncode == 0, done.stderr


def stderr_of(cluster: Cluster) -> str:
    """Return the dispatcher's log."""
    assert cluster.dispatcher is not None
    return cluster.dispatcher.stderr
