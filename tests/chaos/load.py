"""Submits tasks while everything around fails, and keeps a list of what the dispatcher has acknowledged."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.api import Api

REQUEST_TIMEOUT_S = 10.0
RETRY_S = 0.1
PATIENCE_S = 120.0
"""How long one request is repeated before the load gives up and the scenario fails."""
SILENT = 0.4
"""The share of a load that runs as users' tasks do; the others tell us how often they ran."""
LEAVES_LINE = "t"
"""How the names of tasks begin that do."""


@dataclass(frozen=True)
class Pace:
    """How many tasks over how long, and how many of them sleep."""

    tasks: int
    seconds: float
    batch: int = 15
    sleepers: float = 0.2
    longest_sleep_s: float = 3.0


class Ledger:
    """What was asked for, and what of it was answered with a yes."""

    def __init__(self, lines: Path, mark: str) -> None:
        self.lines = lines
        self.mark = mark
        """Stands in the command line of every shell, by which one that was left behind is found."""
        self.asked: list[str] = []
        self.acknowledged: dict[str, str] = {}
        self.repeats = 0
        """Requests sent again because their answer never came."""
        self._lock = threading.Lock()

    def new_task(self, before_s: float = 0.0, after_s: float = 0.0) -> dict[str, Any]:
        """Return a task that appends its name to the file: one small write, which no other can come between."""
        name = self._new_name(LEAVES_LINE)
        parts = [f"echo {name} >> {self.lines}"]
        if before_s:
            parts.insert(0, f"sleep {before_s:.2f}")
        if after_s:
            parts.append(f"sleep {after_s:.2f}")
        return {"name": name, "command": "; ".join([*parts, f": {self.mark}"]), "sandbox": "basic"}

    def new_silent_task(self, sleep_s: float = 0.0) -> dict[str, Any]:
        """Return a task at the usual level, where no command can leave a line for us."""
        return {"name": self._new_name("s"), "command": f"sleep {sleep_s:.2f}; : {self.mark}"}

    def _new_name(self, letter: str) -> str:
        with self._lock:
            name = f"{letter}{len(self.asked):06}"
            self.asked.append(name)
        return name


class Client:
    """A client that takes no silence for an answer: it repeats a request with its key until one comes."""

    def __init__(self, url: str, password: str, ledger: Ledger, key_prefix: str) -> None:
        self._api = Api(url)
        self._api.http.timeout = httpx.Timeout(REQUEST_TIMEOUT_S)
        self._password = password
        self._ledger = ledger
        self._key_prefix = key_prefix
        self._requests = 0
        self._is_given_up = threading.Event()

    def close(self) -> None:
        self._api.close()

    def give_up(self) -> None:
        """Wait for no answer any more: nobody will give one."""
        self._is_given_up.set()

    def submit(self, tasks: Sequence[dict[str, Any]]) -> list[str]:
        """Return the ids of the tasks; raises AssertionError for any answer but a yes."""
        self._requests += 1
        body = json.dumps(list(tasks)).encode()
        headers = {"Idempotency-Key": f"{self._key_prefix}-{self._requests}", "Content-Type": "application/json"}
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_given_up.is_set():
            try:
                if "Authorization" not in self._api.http.headers:
                    self._api.login("admin", self._password)
                answer = self._api.http.post("/api/v1/tasks", content=body, headers=headers)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                self._ledger.repeats += 1
                self._is_given_up.wait(RETRY_S)
                continue
            if answer.status_code == 401:  # A quarter of an hour is over.
                del self._api.http.headers["Authorization"]
                continue
            if answer.status_code == 503 and time.monotonic() < deadline:
                self._is_given_up.wait(RETRY_S)
                continue
            assert answer.status_code in {200, 201}, f"a submission was answered {answer.status_code}: {answer.text}"
            made = {task["name"]: task["id"] for task in answer.json()}
            assert len(made) == len(tasks), f"{len(tasks)} tasks were asked for and {len(made)} acknowledged"
            self._ledger.acknowledged.update(made)
            return list(made.values())
        raise AssertionError("the scenario ended before the answer came")


class Load(threading.Thread):
    """Submits at a pace, in batches of random size, on a thread of its own."""

    def __init__(self, client: Client, ledger: Ledger, pace: Pace, seed: str) -> None:
        super().__init__(name="load", daemon=True)
        self._client = client
        self._ledger = ledger
        self._pace = pace
        self._random = random.Random(seed)
        self._is_over = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        began = time.monotonic()
        done = 0
        try:
            while done < self._pace.tasks and not self._is_over.is_set():
                size = min(self._random.randint(1, self._pace.batch), self._pace.tasks - done)
                self._client.submit([self._one() for _ in range(size)])
                done += size
                due_at = began + self._pace.seconds * done / self._pace.tasks
                self._is_over.wait(max(0.0, due_at - time.monotonic()))
        except (AssertionError, httpx.HTTPError, ValueError) as error:
            self.error = error

    def finish(self) -> None:
        """Wait for the last batch; raises what went wrong on the thread."""
        self.join(PATIENCE_S + self._pace.seconds)
        assert not self.is_alive(), "the load has not ended"
        if self.error:
            raise AssertionError(f"the load failed: {self.error!r}") from self.error

    def stop(self) -> None:
        """End after the batch in hand."""
        self._is_over.set()
        if self.is_alive():
            self.join(REQUEST_TIMEOUT_S + RETRY_S)

    def _one(self) -> dict[str, Any]:
        is_silent = self._random.random() < SILENT
        if self._random.random() >= self._pace.sleepers:
            return self._ledger.new_silent_task() if is_silent else self._ledger.new_task()
        sleep_s = self._random.uniform(0.1, self._pace.longest_sleep_s)
        if is_silent:
            return self._ledger.new_silent_task(sleep_s)
        # Half of them leave their line first: if they are killed, the line tells that they ran.
        return self._ledger.new_task(after_s=sleep_s) if self._random.random() < 0.5 else self._ledger.new_task(sleep_s)
