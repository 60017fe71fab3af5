"""The place of one scenario: a cluster whose programs are killed, paused and cut off, with a count of it all."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.load import Client, Ledger, Load, Pace
from tests.support.api import Api
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.netns import Machine
from tests.support.open_folder import open_file
from tests.support.programs import Program, new_mark
from tests.support.wait import wait_until

APPROVE_EVERY_S = 0.3
SETTLE_S = 150.0
STOP_S = 30.0
"""More than any drain takes here: no command sleeps that long when its worker is told to stop."""
KILLED = -signal.SIGKILL

_making = threading.Lock()


@dataclass
class Counts:
    """What happened to the programs of a scenario."""

    kills: int = 0
    pauses: int = 0
    restarts: int = 0
    approvals: int = 0
    restart_s: list[float] = field(default_factory=list)
    wal_bytes: int = 0


@dataclass(frozen=True)
class Post:
    """How a worker is started, each time."""

    slots: int
    machine: Machine | None
    flags: tuple[str, ...]


class Field(Cluster):
    """One scenario's dispatcher and workers, its load and its story."""

    def __init__(self, folder: Path, name: str, seed: int, variables: dict[str, str]) -> None:
        folder.mkdir()
        with _making:  # Scenarios run side by side, and ports are handed out one by one.
            super().__init__(folder, **variables)
        self.name = name
        self.seed = f"{seed}/{name}"
        self.random = random.Random(self.seed)
        self.counts = Counts()
        self.broken: list[str] = []
        self.notes: list[str] = []
        self.ballast = 0
        """Queued tasks that no worker can take, put there by the scenario."""
        self.ledger = Ledger(open_file(folder, "lines"), new_mark())
        self.bind = "127.0.0.1"
        self.cable: Any = None
        """Laid by scenarios that have one."""
        self._posts: dict[str, Post] = {}
        self._prefix: Sequence[str] = ()
        self._crash_at = ""
        self._loads: list[Load] = []
        self._clients: list[Client] = []
        self._is_over = threading.Event()
        self._is_abandoned = False
        self._warden = threading.Thread(target=self._approve_suspended, name="warden", daemon=True)
        self._began = time.monotonic()
        self._story = (folder / "story").open("a", encoding="utf-8")

    # The story

    def tell(self, text: str) -> None:
        """Write what was done, for whoever has to find out what happened."""
        self._story.write(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self._began:8.3f} {text}\n")
        self._story.flush()

    def expect(self, is_true: bool, text: str) -> None:
        """Note a broken promise and go on: the rest of the scenario may tell more."""
        if not is_true:
            self.tell(f"BROKEN: {text}")
            self.broken.append(text)

    def pause_for(self, seconds: float) -> None:
        """Let time pass; what is to happen at random moments needs that."""
        self._is_over.wait(seconds)

    # Programs

    def run(self, name: str, command: list[str]) -> Program:
        """Start a program, on its machine, and so that it dies where it was asked to."""
        if self._crash_at:
            command = [command[0], "-m", "tests.chaos.crashing", self._crash_at, *command[1:]]
        command = [*self._prefix, *command]
        self._prefix, self._crash_at = (), ""
        program = super().run(name, command)
        self.tell(f"started {name}, pid {program.pid}: {' '.join(command[:8])} ...")
        return program

    def raise_dispatcher(self, crash_at: str = "", *, wait: bool = True) -> Program:
        """Start the dispatcher, again if need be; how long it takes to answer is counted."""
        self._crash_at = crash_at
        began = time.monotonic()
        program = self.start_dispatcher("--bind", self.bind, wait=False)
        if wait:
            self.wait_healthy()
            self.counts.restart_s.append(time.monotonic() - began)
            self.tell(f"the dispatcher answers after {self.counts.restart_s[-1]:.2f} s")
            self.api.login("admin", ADMIN_PASSWORD)
        if not self._warden.is_alive():
            self._warden.start()
        return program

    def begin(self, *names: str, slots: int = 8, machine: Machine | None = None, flags: Sequence[str] = ()) -> None:
        """Start the dispatcher and workers, and wait until all are connected."""
        self.raise_dispatcher()
        for name in names:
            self.add_worker(name, *flags, slots=slots, machine=machine)
        self.wait_connected(*names)

    def add_worker(self, name: str, *flags: str, slots: int = 8, machine: Machine | None = None) -> None:
        """Start a new worker."""
        self._posts[name] = Post(slots, machine, flags)
        self.raise_worker(name)

    def raise_worker(self, name: str, crash_at: str = "") -> Program:
        """Start a worker with the state it has."""
        post = self._posts[name]
        self._crash_at = crash_at
        self._prefix = post.machine.command() if post.machine else ()
        # Those that leave lines do so on the host, as only commands below strict can.
        return self.start_worker(name, "--min-sandbox", "basic", *post.flags, slots=post.slots)

    def kill(self, program: Program) -> None:
        """Kill -9."""
        self.tell(f"kill -9 {program.name}")
        program.kill()
        self.counts.kills += 1

    def stop(self, program: Program) -> None:
        """SIGTERM, and wait for the end of the drain."""
        self.tell(f"SIGTERM to {program.name}")
        try:
            code = program.stop(STOP_S)
        except AssertionError:
            self.expect(False, f"{program.name} has not ended {STOP_S:g} s after SIGTERM")
            program.kill()
            return
        self.tell(f"{program.name} ended with {code}")
        self.expect(code == 0, f"{program.name} ended with {code} after SIGTERM")

    def signal(self, program: Program, number: signal.Signals) -> None:
        """Stop a process in its tracks, or let it go on."""
        self.tell(f"{number.name} to {program.name}")
        program.process.send_signal(number)
        if number is signal.SIGSTOP:
            self.counts.pauses += 1

    def wait_killed(self, program: Program, label: str, timeout_s: float = 30.0) -> None:
        """Wait until a program has died at its labelled point; one that does not means that the label is dead."""
        self.wait(lambda: not program.is_running, f"{program.name} has died, as it should at {label}", timeout_s)
        code = program.process.returncode
        assert code == KILLED, f"{program.name} was to be killed at {label} and ended with {code}\n{program.tail()}"
        self.counts.kills += 1

    # Load

    def client(self) -> Client:
        """Return a client of this cluster."""
        key_prefix = f"{self.name}-{len(self._clients)}"
        client = Client(self.url, ADMIN_PASSWORD, self.ledger, key_prefix)
        self._clients.append(client)
        return client

    def start_load(self, pace: Pace) -> Load:
        """Submit tasks at a pace from now on."""
        load = Load(self.client(), self.ledger, pace, f"{self.seed}/{len(self._loads)}")
        self._loads.append(load)
        load.start()
        return load

    # Looking

    def count(self, query: str, *parameters: object) -> int:
        """Return the one number that a query gives."""
        [(number,)] = self.rows(query, *parameters)
        return int(number or 0)

    def given_up(self) -> int:
        """Return how many attempts were recorded as lost or handed back."""
        return self.count("SELECT count(*) FROM results WHERE outcome IN ('lost', 'rejected')")

    def lost(self) -> int:
        """Return how many attempts were lost with their worker."""
        return self.count("SELECT count(*) FROM results WHERE outcome = 'lost'")

    def superseded(self) -> int:
        """Return how many late outcomes were kept aside."""
        return self.count("SELECT count(*) FROM results WHERE is_superseded")

    def live_on(self, *names: str) -> int:
        """Return how many commands the dispatcher knows to run on these workers."""
        marks = ", ".join("?" * len(names))
        return self.count(
            "SELECT count(*) FROM tasks JOIN workers ON workers.id = tasks.worker_id"
            f" WHERE tasks.assigned_at IS NOT NULL AND tasks.status = 'running' AND workers.name IN ({marks})",
            *names,
        )

    def spooled(self, name: str = "*") -> int:
        """Return how many outcomes wait on the workers' disks."""
        return len(list(self.folder.glob(f"state-{name}/spool/*")))

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait for what the scenario needs to go on."""

        def unless_abandoned() -> bool:
            if self._is_abandoned:
                raise RuntimeError("the scenario was interrupted")
            return condition()

        wait_until(unless_abandoned, what, timeout_s=timeout_s, describe=self.describe)
        self.tell(f"now: {what}")

    def wait_all_ended(self, timeout_s: float = SETTLE_S) -> None:
        """Wait until no task waits or runs any more."""
        query = "SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')"
        self.wait(lambda: self.count(query) == self.ballast, "every task has ended", timeout_s)

    # The end

    def settle(self) -> None:
        """Let everything come to rest, and stop all programs as their operators would."""
        for load in self._loads:
            load.finish()
        self.wait_all_ended()
        self.wait(lambda: not self.spooled(), "no outcome waits on a worker's disk")
        # One that has just been started has what a killed one left to wipe, and no drain yet.
        self.wait(
            lambda: all("Connected as" in worker.stderr for worker in self.workers.values()), "every worker is up"
        )
        wal = self.db_path.with_name(f"{self.db_path.name}-wal")
        self.counts.wal_bytes = wal.stat().st_size if wal.exists() else 0
        self._end_threads()
        for name, worker in self.workers.items():
            if worker.is_running:
                self.stop(worker)
            else:
                self.expect(False, f"worker {name} is not there at the end: {worker.tail(5)}")
        assert self.dispatcher is not None
        self.stop(self.dispatcher)

    def abandon(self) -> None:
        """End everything that still runs: after a failure, or at an interrupt, from another thread."""
        self._is_abandoned = True
        self._is_over.set()
        for program in self.programs:
            if program.is_running:
                program.kill()
        self._end_threads()

    def close_files(self) -> None:
        """Let go of connections and the story."""
        self.api.close()
        for client in self._clients:
            client.close()
        self._story.close()

    def _end_threads(self) -> None:
        self._is_over.set()
        for client in self._clients:
            client.give_up()
        for load in self._loads:
            load.stop()
        if self._warden.is_alive():
            self._warden.join(10)

    def _approve_suspended(self) -> None:
        """Do what an operator does with a worker that was taken out of service: look, and approve it again."""
        api = Api(self.url)
        while not self._is_over.wait(APPROVE_EVERY_S):
            try:
                if "Authorization" not in api.http.headers:
                    api.login("admin", ADMIN_PASSWORD)
                for worker in api.workers():
                    if worker["admission"] == "suspended":
                        api.post(f"workers/{worker['id']}/approve")
                        self.counts.approvals += 1
                        self.tell(f"approved {worker['name']} again")
            except AssertionError:  # The token's time is over, or the dispatcher is about to stop.
                api.http.headers.pop("Authorization", None)
            except httpx.HTTPError:
                continue
        api.close()
