"""A real dispatcher and real workers in a temporary folder, seen through their public doors only."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from octaskly_wire.vocabulary import SandboxLevel, Transport
from tests.support import levels, transports
from tests.support.api import ENDED, Api
from tests.support.programs import Program, clean_environment, free_port, manage
from tests.support.wait import wait_until

ADMIN_PASSWORD = "correct horse battery staple"
START_TIMEOUT_S = 45.0
FAST_LEASES = {"OCTASKLY_HEARTBEAT_S": "0.3", "OCTASKLY_LEASE_S": "2", "OCTASKLY_RECONNECT_GRACE_S": "3"}
"""The same rules at a tenth of the time."""


def usual_levels() -> dict[str, str]:
    """Return nothing where the defaults do; elsewhere what a user of such a machine is told to set."""
    if levels.usual() is SandboxLevel.STRICT:
        return {}
    return {"OCTASKLY_DEFAULT_SANDBOX": levels.usual(), "OCTASKLY_LOCAL_MIN_SANDBOX": levels.usual()}


def usual_floor() -> list[str]:
    """Return the same as flags of a worker."""
    return [] if levels.usual() is SandboxLevel.STRICT else ["--min-sandbox", levels.usual()]


def worker_transport() -> list[str]:
    """Return the flags that make a worker speak the transport that the test is about."""
    return [] if transports.current() is Transport.TCP else ["--transport", transports.current()]


class Cluster:
    """One dispatcher, its database, and the workers that a test starts."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.db_path = folder / "data" / "octaskly.db"
        self.port = free_port()
        self.api_port = free_port()
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.environment = clean_environment(
            folder,
            **{
                "OCTASKLY_DB_PATH": str(self.db_path),
                "OCTASKLY_ADMIN_PASSWORD": ADMIN_PASSWORD,
                "OCTASKLY_LOG": "debug,django=info",
                **usual_levels(),
                **FAST_LEASES,
                **variables,
            },
        )
        self.programs: list[Program] = []
        self.workers: dict[str, Program] = {}
        self.dispatcher: Program | None = None
        self.api = Api(self.url)
        self.secrets: set[str] = {ADMIN_PASSWORD}
        """What must never stand in a log."""
        self.tolerates_tracebacks = False
        self._starts = 0

    # Programs

    def start_dispatcher(self, *flags: str, wait: bool = True, inside: Sequence[str] = ()) -> Program:
        """Start `rundispatcher` on this cluster's ports and wait until /health answers.

        `inside` is a program that starts it in surroundings of its own, as `unshare` does.
        """
        self._starts += 1
        command = [*inside, sys.executable, "manage.py", "rundispatcher", "--port", str(self.port)]
        command += ["--api-port", str(self.api_port), "--bind", "127.0.0.1", "--no-mdns", *flags]
        self.dispatcher = self.run(f"dispatcher-{self._starts}", command)
        if wait:
            self.wait_healthy()
            self.api.login("admin", ADMIN_PASSWORD)
            self.secrets |= {self.api.refresh_token, self.api.http.headers["Authorization"].partition(" ")[2]}
        return self.dispatcher

    def start_worker(
        self, name: str, *flags: str, slots: int = 4, token: str | None = None, inside: Sequence[str] = ()
    ) -> Program:
        """Start a worker; a token (made here unless given) joins it the first time; `inside` as above."""
        self._starts += 1
        state = self.state_dir(name)
        command = [*inside, sys.executable, "-m", "worker_node", "--dispatcher-addr", f"127.0.0.1:{self.port}"]
        command += ["--name", name, "--max-jobs", str(slots), "--state-dir", str(state)]
        command += [*usual_floor(), *worker_transport()]
        if not state.exists():
            command += ["--join-token", token or self.join_token()]
        worker = self.run(f"{name}-{self._starts}", [*command, *flags])
        self.workers[name] = worker
        return worker

    def state_dir(self, name: str) -> Path:
        return self.folder / f"state-{name}"

    def join_token(self, *, auto_approve: bool = True, uses: int = 1) -> str:
        """Return a join token from REST."""
        answer = self.api.post("join-tokens", {"uses": uses, "ttl_s": 3600, "auto_approve": auto_approve})
        self.remember_token(answer["token"])
        return answer["token"]

    def remember_token(self, token: str) -> None:
        """Add a join token's secret part to what no log may show."""
        self.secrets |= {token, token.split("-")[3]}

    def manage(self, *arguments: str) -> Any:
        """Run a management command on this cluster's database."""
        return manage(*arguments, environment=self.environment)

    def run(self, name: str, command: list[str]) -> Program:
        """Start a program of this cluster; it ends with the test."""
        program = Program(name, command, self.folder, self.environment)
        self.programs.append(program)
        return program

    # Waiting

    def wait_healthy(self) -> None:
        """Wait until the dispatcher accepts work."""

        def healthy() -> bool:
            assert self.dispatcher is not None
            if not self.dispatcher.is_running:
                raise RuntimeError(f"the dispatcher ended\n{self.dispatcher.tail()}")
            try:
                return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(healthy, "the dispatcher answers /health", timeout_s=START_TIMEOUT_S, describe=self.describe)

    def wait_connected(self, *names: str, timeout_s: float = 20.0) -> None:
        """Wait until these workers are approved and connected."""

        def connected() -> bool:
            states = {worker["name"]: worker for worker in self.api.workers()}
            return all(
                name in states and states[name]["is_connected"] and states[name]["admission"] == "approved"
                for name in names
            )

        wait_until(connected, f"{', '.join(names)} connected", timeout_s=timeout_s, describe=self.describe)

    def wait_status(self, task_id: str, *statuses: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Return the task once its status is one of these; fail at once when it ended otherwise."""

        def reached() -> dict[str, Any] | None:
            task = self.api.task(task_id)
            if task["status"] in statuses:
                return task
            if task["status"] in ENDED:
                raise RuntimeError(f"task ended as {task['status']}: {task}\n{self.describe()}")
            return None

        return wait_until(reached, f"{task_id} {' or '.join(statuses)}", timeout_s=timeout_s, describe=self.describe)

    def wait_ended(self, *task_ids: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Return the tasks once all have ended."""

        def ended() -> list[dict[str, Any]] | None:
            tasks = [self.api.task(task_id) for task_id in task_ids]
            return tasks if all(task["status"] in ENDED for task in tasks) else None

        return wait_until(ended, f"{len(task_ids)} tasks ended", timeout_s=timeout_s, describe=self.describe)

    # Looking

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return what a read-only look into the database shows."""
        with closing(sqlite3.connect(f"file:{self.db_path}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(query, parameters).fetchall()

    def describe(self) -> str:
        """Return the tables and the ends of all logs."""
        lines = []
        for query in (
            "SELECT id, status, worker_id, attempt, failures, losses, exit_code, failure_reason FROM tasks LIMIT 40",
            "SELECT attempt_id, worker_id, state, outcome, failure_reason, detail FROM results LIMIT 40",
            "SELECT id, name, admission, is_connected, is_draining, slots FROM workers LIMIT 20",
        ):
            try:
                rows = "\n".join(str(row) for row in self.rows(query))
            except sqlite3.Error as error:
                rows = repr(error)
            lines.append(f"--- {query}\n{rows}")
        return "\n".join([*lines, *(program.tail() for program in self.programs)])

    # The end

    def close(self) -> None:
        """End what was started, workers first, and check what every run must keep."""
        for program in reversed(self.programs):
            program.end()
        self.api.close()
        self.check_logs()

    def check_logs(self) -> None:
        """Fail on a secret or a traceback in any log."""
        for program in self.programs:
            log = program.stderr
            for secret in self.secrets:
                assert secret not in log, f"a secret stands in the log of {program.name}"
            if not self.tolerates_tracebacks:
                assert "Traceback (most recent call last)" not in log, program.tail(80)
