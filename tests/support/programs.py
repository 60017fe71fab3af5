"""Starting the real programs, reading what they print, and ending exactly those that were started."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
FIRST_PORT, AFTER_LAST_PORT = 20_000, 32_000
"""Below the ports that the kernel gives to outgoing connections, so that none of those comes between."""
PORTS_A_PROCESS = 997
"""Test processes begin that far apart, as their ids are neighbours: few of them ever meet."""

_next_port = FIRST_PORT + os.getpid() * PORTS_A_PROCESS % (AFTER_LAST_PORT - FIRST_PORT)


def free_port() -> int:
    """Return a TCP port that nobody listens on and that no other call returned lately."""
    global _next_port  # noqa: PLW0603 - one counter for the whole test process
    while True:
        _next_port += 1
        if _next_port == AFTER_LAST_PORT:
            _next_port = FIRST_PORT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", _next_port))
            except OSError:
                continue
        return _next_port


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment as a fresh login has it: none of this process's own settings."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


class Program:
    """One started process with its output in two files."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: dict[str, str], cwd: Path = ROOT
    ) -> None:
        self.name = name
        self.stdout_path = folder / f"{name}.out"
        self.stderr_path = folder / f"{name}.err"
        with self.stdout_path.open("ab") as stdout, self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def ask_to_stop(self) -> None:
        """Send the first SIGTERM: drain."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9 and reap."""
        self.process.kill()
        self.process.wait(10)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended in {timeout_s:g} s\n{self.tail()}") from None

    def stop(self, timeout_s: float = 20.0) -> int:
        """Drain, and return the exit code."""
        if self.is_running:
            self.ask_to_stop()
        return self.wait(timeout_s)

    def end(self) -> None:
        """End it whatever its state: politely, and then not."""
        if not self.is_running:
            return
        self.ask_to_stop()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self, lines: int = 40) -> str:
        """Return the last lines of both outputs."""
        out = self.stdout.splitlines()[-lines:]
        err = self.stderr.splitlines()[-lines:]
        state = "running" if self.is_running else f"ended with {self.process.returncode}"
        return "\n".join([f"--- {self.name} ({state}) stdout", *out, f"--- {self.name} stderr", *err])


def manage(*arguments: str, environment: dict[str, str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one management command to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        check=False,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def process_exists(pid: int) -> bool:
    """Return whether a process of this id runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def new_mark() -> str:
    """Return a number of seconds that nobody else sleeps: it finds a `sleep` again, in whatever sandbox that is."""
    return f"1000.{secrets.randbelow(10**12):012}"


def processes_with(mark: str) -> list[int]:
    """Return the processes that carry a mark in their command line, as this side of any sandbox numbers them."""
    return [process.pid for process in _carriers(mark)]


def sleepers(mark: str) -> list[int]:
    """Return those of them that are the `sleep` itself: once there is one, its command has come that far."""
    return [process.pid for process in _carriers(mark) if process.info["cmdline"][0] == "sleep"]


def wake(mark: str) -> int:
    """End each `sleep` of a mark, so that the command that waits for it goes on; return how many there were."""
    pids = sleepers(mark)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return len(pids)


def _carriers(mark: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(mark in word for word in process.info["cmdline"] or ())
    ]
