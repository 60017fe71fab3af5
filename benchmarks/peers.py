"""What ours is measured beside: other systems in an environment of their own, and programs that are installed or not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.bubblewrap import BWRAP
from benchmarks.figures import machine_cpu_s

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench-peers"
PYTHON = FOLDER / "bin" / "python"
REQUIREMENTS = ROOT / "benchmarks" / "peers-requirements.txt"
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """How long so many commands took, and the processor seconds of the whole machine meanwhile."""

    commands: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Return commands a second."""
        return self.commands / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return the machine's processor microseconds a command."""
        return self.cpu_s / self.commands * 1e6


class Stopwatch:
    """Measures from its making until it is asked."""

    def __init__(self) -> None:
        self._cpu_s, self._at = machine_cpu_s(), time.perf_counter()

    def run(self, commands: int) -> Run:
        """Return the run that ends now."""
        return Run(commands, time.perf_counter() - self._at, machine_cpu_s() - self._cpu_s)


@cache
def peers_python() -> str:
    """Return the Python of build/bench-peers, made when its requirements have changed; empty where it cannot be made."""
    stamp, wanted = FOLDER / ".installed", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(PYTHON)
    print("installing the peers into build/bench-peers (once)", file=sys.stderr, flush=True)
    make = [sys.executable, "-m", "venv", "--clear", str(FOLDER)]
    install = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    if any(subprocess.run(step, check=False).returncode for step in (make, install)):
        return ""
    stamp.write_text(wanted)
    return str(PYTHON)


def peer(*arguments: str) -> list[str]:
    """Return the command line of one of benchmarks.peer_programs; empty where they cannot be installed."""
    python = peers_python()
    return [python, "-m", "benchmarks.peer_programs", *arguments] if python else []


def spawning(way: str, at_once: int, count: int, command: Sequence[str]) -> list[str]:
    """Return what runs a command so many times and nothing else; empty where the command is not installed."""
    if not shutil.which(command[0]):
        return []
    program = str(ROOT / "benchmarks" / "spawn_limit.py")
    return [sys.executable, "-S", "-E", program, way, str(at_once), str(count), *command]


def bubblewrap(at_once: int, count: int, command: Sequence[str]) -> list[str]:
    """Return what runs a command so many times in bubblewrap; empty where it is not installed."""
    if not shutil.which(BWRAP):
        return []
    return [sys.executable, "-S", "-E", "-m", "benchmarks.bubblewrap", str(at_once), str(count), *command]


def parallel(at_once: int, count: int) -> list[str]:
    """Return what makes GNU Parallel run so many shells; empty where it is not installed."""
    if not shutil.which("parallel"):
        return []
    run = f"seq {count} | SHELL=/bin/sh parallel --will-cite -j{at_once} -n0 true"
    return ["/bin/sh", "-c", f"echo begin; {run} && echo end"]


def timed(command: Sequence[str], count: int) -> Run | None:
    """Return what passed between the lines `begin` and `end` of a program; None where it is not here or fails."""
    if not command:
        return None
    watch, run = None, None
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        overdue = threading.Timer(LONGEST_S, program.kill)
        overdue.start()
        for line in program.stdout or ():
            if line == "begin\n":
                watch = Stopwatch()
            elif line == "end\n" and watch:
                run = watch.run(count)
        overdue.cancel()
    if program.returncode or not run:
        print(f"failed with {program.returncode}: {' '.join(command)}", file=sys.stderr, flush=True)
        return None
    return run
