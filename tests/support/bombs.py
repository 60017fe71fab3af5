"""Commands that take more than they may, and what that looks like from outside while a worker stops them.

Every bomb stops by itself, so that a sandbox which fails does not take the machine down: none ever holds more than
700 MB, has more than 400 processes or outlives its time-out. A bomb that came to that end of its own says so.

`explode` runs some of them and returns measurements. It can be called in another process, so it takes and returns what
JSON can say. The table of bombs makes this file long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Self

import psutil

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import BACKENDS, Bench, Ending, until
from worker_node.sandbox import proc_tree
from worker_node.sandbox.cgroup import PREFIX
from worker_node.sandbox.environment import DEFAULT_PATH
from worker_node.sandbox.gaps import gaps_of

MIB = 1 << 20
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.01
SURVIVED = "survived"
SEGMENT_BYTES = 32 * MIB + os.getpid() % 500 * 4096
SEMAPHORES = 32000 - os.getpid() % 500
"""Sizes that tell this process's memory segments and sets of semaphores from most others on the machine."""


@dataclass(frozen=True)
class Bomb:
    """A command, and the limits that it is to be held by."""

    command: str
    limits: Limits
    timeout_s: int = 20


def python(text: str, timeout_s: int = 20, **limits: int) -> Bomb:
    """Return a bomb in Python, which takes the place of its shell."""
    numbers = f"MIB, SEGMENT_BYTES, SEMAPHORES = {MIB}, {SEGMENT_BYTES}, {SEMAPHORES}"
    head = f"import ctypes, mmap, os, signal, sys, time\n{numbers}\nMARK = os.environ['MARK']"
    program = f"{head}\n{dedent(text).strip()}\nprint('{SURVIVED}')"
    return Bomb(f"exec python3 - <<'END'\n{program}\nEND", Limits(**limits), timeout_s)


def sh(text: str, timeout_s: int = 20, **limits: int) -> Bomb:
    """Return a bomb for the shell, which ends at its first failure."""
    return Bomb(f"set -e\n{dedent(text).strip()}\necho {SURVIVED}", Limits(**limits), timeout_s)


MEMORY_MB = 256
MEMORY = {
    "heap": python("kept = [b'x' * (8 * MIB) for _ in range(80)]", memory_mb=MEMORY_MB),
    "tree": python(
        """
        for _ in range(6):
            if os.fork() == 0:
                kept = b"x" * (100 * MIB)
                time.sleep(3)
                os._exit(0)
        statuses = [os.wait()[1] for _ in range(6)]
        if any(statuses):
            sys.exit(f"killed: {statuses}")
        """,
        memory_mb=MEMORY_MB,
    ),
    "shared_mmap": python(
        """
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        kept = [mmap.mmap(-1, 32 * MIB, flags) for _ in range(20)]
        time.sleep(0.5)
        """,
        memory_mb=MEMORY_MB,
    ),
    "memfd": python(
        """
        for _ in range(10):
            fd = os.memfd_create("bomb")
            for _ in range(64):
                os.write(fd, bytes(MIB))
        time.sleep(0.5)
        """,
        memory_mb=MEMORY_MB,
    ),
    "sysv": python(
        """
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        for _ in range(20):
            segment = libc.shmget(0, SEGMENT_BYTES, 0o1600)
            if segment < 0:
                sys.exit(f"refused: {os.strerror(ctypes.get_errno())}")
            at = libc.shmat(segment, None, 0)
            ctypes.memset(at, 1, SEGMENT_BYTES)
            libc.shmdt(ctypes.c_void_p(at))
        time.sleep(0.5)
        """,
        memory_mb=MEMORY_MB,
    ),
    "dev_shm": python(
        """
        for number in range(20):
            with open(f"/dev/shm/octaskly-bomb-{MARK}-{number}", "wb", 0) as file:
                for _ in range(32):
                    file.write(bytes(MIB))
        time.sleep(0.5)
        """,
        memory_mb=MEMORY_MB,
    ),
    # What holds no byte takes memory of the kernel all the same: 300 MB and 100 MB.
    "semaphores": python(
        """
        libc = ctypes.CDLL(None, use_errno=True)
        sets = []
        for _ in range(150):
            sets.append(libc.semget(0, SEMAPHORES, 0o1600))
            if sets[-1] < 0:
                refusal = os.strerror(ctypes.get_errno())
                for each in sets[:-1]:
                    libc.semctl(each, 0, 0)
                sys.exit(f"refused: {refusal}")
        for each in sets:
            libc.semctl(each, 0, 0)
        """,
        memory_mb=MEMORY_MB,
    ),
    "empty_files_in_memory": python(
        """
        for number in range(100_000):
            os.close(os.open(f"/dev/shm/octaskly-bomb-{MARK}-{number}", os.O_WRONLY | os.O_CREAT))
        """,
        memory_mb=MEMORY_MB,
    ),
}

PROCESSES = 40
FORKS = {
    "fork_shell": sh(
        """
        bomb() { if [ $1 -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; sleep 1; }
        bomb 6 2>/dev/null
        """,
        processes=PROCESSES,
    ),
    # Each process forks as long as there are tokens and eats time; none of them listens.
    "fork_and_spin": python(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tokens, put = os.pipe()
        os.write(put, b"." * 390)
        os.set_blocking(tokens, False)
        end = time.monotonic() + 7
        while time.monotonic() < end:
            try:
                os.read(tokens, 1)
                os.fork()
            except BlockingIOError:
                if os.get_blocking(tokens):
                    raise
            except OSError:
                os.write(put, b".")
        """,
        processes=PROCESSES,
    ),
}

DISK_MB = 64
_MANY_FILES = """
for number in range(30):
    with open(f"file-{number}", "wb", 0) as file:
        for _ in range(20):
            file.write(bytes(MIB))
"""
DISK = {
    "one_file": sh("head -c 1200M /dev/zero >file", disk_mb=DISK_MB),
    "many_files": python("signal.signal(signal.SIGTERM, signal.SIG_IGN)" + _MANY_FILES, disk_mb=DISK_MB),
    "unlinked_files": python(
        """
        kept = []
        for number in range(30):
            kept.append(open("file", "wb", 0))
            os.unlink("file")
            for _ in range(20):
                kept[-1].write(bytes(MIB))
        time.sleep(0.5)
        """,
        disk_mb=DISK_MB,
    ),
    "hidden_folder": python(
        """
        os.mkdir("folder")
        kept = [open(f"folder/{number}", "wb", 0) for number in range(30)]
        os.chmod("folder", 0)
        for file in kept:
            for _ in range(20):
                file.write(bytes(MIB))
        time.sleep(0.5)
        """,
        disk_mb=DISK_MB,
    ),
    "small_files": python(
        """
        for number in range(60_000):
            fd = os.open(f"file-{number}", os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"x" * 4096)
            os.close(fd)
        """,
        disk_mb=DISK_MB,
    ),
    # Whoever counts them all is late for what comes after.
    "files_behind_a_crowd": python(
        """
        for number in range(6_000):
            os.close(os.open(f"empty-{number}", os.O_WRONLY | os.O_CREAT))
        """
        + _MANY_FILES.replace("\n", "\n        "),
        disk_mb=DISK_MB,
    ),
    "sparse_files": sh("for n in 1 2 3 4 5 6 7 8; do truncate -s 60M $n; done; sleep 0.3", disk_mb=DISK_MB),
}

CPU = {
    "busy": python("end = time.monotonic() + 10\nwhile time.monotonic() < end: pass", cpu_seconds=1),
    "busy_children": python(
        """
        for _ in range(40):
            if os.fork() == 0:
                start = time.process_time()
                while time.process_time() - start < 0.25: pass
                os._exit(0)
            os.wait()
        """,
        cpu_seconds=1,
    ),
    # The one who could tell their time is gone before they are.
    "busy_orphans": python(
        """
        for _ in range(40):
            read, write = os.pipe()
            if os.fork() == 0:
                if os.fork() == 0:
                    while time.process_time() < 0.25: pass
                os._exit(0)
            os.close(write)
            os.wait()
            os.read(read, 1)
            os.close(read)
        """,
        cpu_seconds=1,
    ),
}

FLOOD_BYTES = 200_000_000
GREAT_FLOOD_BYTES = 10_000_000_000
OTHERS = {
    "late": sh("sleep 15", timeout_s=1),
    "open_files": python("kept = [open('/dev/null') for _ in range(2000)]", open_files=32),
    # No newline, no UTF-8, and what a terminal would obey.
    "flood": sh(rf"""yes "$(printf '\377\033[2J')" | tr -d '\n' | head -c {FLOOD_BYTES}"""),
    "great_flood": sh(f"head -c {GREAT_FLOOD_BYTES} /dev/zero", timeout_s=120),
}

FAMILIES = ("MEMORY", "FORKS", "DISK", "CPU", "OTHERS")
BOMBS = MEMORY | FORKS | DISK | CPU | OTHERS

NEIGHBOUR = Bomb(
    """exec python3 - <<'END'
import os, time
started_at = time.monotonic()
for _ in range(50):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    for _ in range(300_000):
        pass
print(time.monotonic() - started_at)
END""",
    Limits(),
)
"""Honest work, some of it forking, that tells how long it took."""

HONEST = Bomb("for n in $(seq $(nproc)); do sh -c 'while :; do :; done' & done; wait", Limits())
"""What any task may do all day: keep every processor busy."""


def explode(names: list[str], level: str) -> dict[str, Any]:
    """Run bombs one after the other, each on a bench of its own, and return what became of them.

    Of each it tells how it ended, how much it got hold of, what it left, and which gaps the worker declares there;
    `unavailable` says why it did not run.
    """
    return {name: asyncio.run(_explode(BOMBS[name], SandboxLevel(level))) for name in names}


def neighbour_beside(name: str, level: str) -> dict[str, Any]:
    """Return how many seconds a neighbour's work took beside honest work, and beside one bomb after the other."""
    return asyncio.run(_neighbour_beside(BOMBS[name], SandboxLevel(level)))


async def _explode(bomb: Bomb, level: SandboxLevel) -> dict[str, Any]:
    mark = secrets.token_hex(8)
    async with _ready_bench(level) as (bench, unavailable):
        if unavailable:
            return {"unavailable": unavailable}
        with Gauge(bench) as gauge:
            ending = start(bench, bomb, level, mark)
            await ending.is_over.wait()
            left = list(_leftovers(bench, mark))
    # Groups live as long as their supervisors, which may still be at their last steps.
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(group.exists() for group in gauge.groups), seconds=2)
    left += [str(group) for group in gauge.groups if group.exists()]
    gaps = gaps_of(level, BACKENDS[level], bench.host.facts)
    return _describe(ending) | gauge.found | {"left": left, "has_group": bool(gauge.groups), "gaps": gaps}


async def _neighbour_beside(bomb: Bomb, level: SandboxLevel) -> dict[str, Any]:
    mark = secrets.token_hex(8)
    async with _ready_bench(level) as (bench, unavailable):
        if unavailable:
            return {"unavailable": unavailable}

        async def work() -> float:
            return float((await bench.run(NEIGHBOUR.command, level, env={"PATH": DEFAULT_PATH})).stdout)

        honest = start(bench, HONEST, level, mark)
        await until(lambda: len(_processes_marked(mark)) > 1)
        beside_honest = await work()
        bench.host.stop(next(name for name, ending in bench._endings.items() if ending is honest), at_once=True)
        await honest.is_over.wait()
        # A bomb does not live long: there is always the next one.
        working = asyncio.create_task(work())
        while not working.done():
            await start(bench, bomb, level, mark).is_over.wait()
        return {"beside_honest": beside_honest, "beside_bomb": await working}


def start(bench: Bench, bomb: Bomb, level: SandboxLevel, mark: str) -> Ending:
    """Start a bomb whose processes carry a mark in their environment."""
    env = {"PATH": DEFAULT_PATH, "MARK": mark}
    return bench.start(bomb.command, level, env=env, limits=bomb.limits, timeout_s=bomb.timeout_s)


@contextlib.asynccontextmanager
async def _ready_bench(level: SandboxLevel) -> AsyncIterator[tuple[Bench, str]]:
    """Give a bench on which all is made already that is made once, and why it does not offer the level, if so."""
    with tempfile.TemporaryDirectory(prefix="octaskly-bombs-") as folder:
        bench = Bench(Path(folder))
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield bench, (await bench.run("true", level)).refusal
        finally:
            await bench.runner.close()


def _describe(ending: Ending) -> dict[str, Any]:
    assert ending.outcome is not None, ending.refusal
    report, stdout = ending.report, ending.outcome.stdout
    return {
        "reason": str(report.failure_reason or ""),
        "detail": report.detail,
        "exit_code": report.exit_code,
        "signal": report.signal,
        "seconds": report.duration_ms / 1000,
        "limits": {name: str(kind) for name, kind in report.limits.items()},
        "survived": stdout.data.endswith(f"{SURVIVED}\n".encode()),
        "stdout_bytes": stdout.total_bytes,
        "kept_bytes": len(stdout.data),
        "is_truncated": stdout.is_truncated,
        "stderr": ending.outcome.stderr.data.decode(errors="replace")[-300:],
    }


# --- what is left ------------------------------------------------------------------------------------


def _leftovers(bench: Bench, mark: str) -> Iterator[str]:
    """Yield what there is of a bomb whose end was told, and take away what would stay."""
    for pid in _processes_marked(mark):
        yield f"process {pid}"
    for path in Path("/dev/shm").glob(f"*{mark}*"):
        yield str(path)
        path.unlink()
    for kind, letter, size in (("shm", "m", SEGMENT_BYTES), ("sem", "s", SEMAPHORES)):
        for identifier in _system_v(kind, size):
            yield f"{kind} {identifier}"
            subprocess.run(["ipcrm", f"-{letter}", identifier], check=False)
    bench.workspaces.close()  # what waits, as good as new, for another attempt is none
    for path in bench.workspaces.root.iterdir():
        yield str(path)


def _processes_marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def _system_v(kind: str, size: int) -> list[str]:
    """Return the identifiers of what processes share by number, of a size that only bombs have."""
    lines = [line.split() for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]]
    return [words[1] for words in lines if int(words[3]) == size]


# --- how much it is ----------------------------------------------------------------------------------


class Gauge:
    """Looks many times a second at what the commands of a bench use, and keeps the most in `found`."""

    def __init__(self, bench: Bench) -> None:
        """Look at a bench all of whose supervisors are there already."""
        self.found: dict[str, int] = {}
        supervisors = proc_tree.children(bench.host.spawner_pid)
        self.groups = [path for pid in supervisors for path in _groups(bench, pid)]
        self._supervisors = supervisors
        self._root = bench.workspaces.root
        self._worker = psutil.Process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again)
        self._before = self._now()
        self._most = self._before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.found = {name: self._most[name] - before for name, before in self._before.items()}
        # A control group's most is known to the kernel, which misses nothing.
        if self.groups:
            self.found["memory_bytes"] = max(_most_of_group(group) for group in self.groups)

    def _look_again_and_again(self) -> None:
        pause_s = LOOK_EVERY_S
        while not self._is_over.wait(pause_s):
            started_at = time.monotonic()
            now = self._now()
            self._most = {name: max(now[name], most) for name, most in self._most.items()}
            # Many files take long to look at: let whoever is watched and who stops them have most of the time.
            pause_s = max(LOOK_EVERY_S, 3 * (time.monotonic() - started_at))

    def _now(self) -> dict[str, int]:
        pids = [pid for supervisor in self._supervisors for pid in proc_tree.descendants(supervisor)]
        return {
            "memory_bytes": 0 if self.groups else _memory_bytes(pids),
            "disk_bytes": _disk_bytes(self._root, pids),
            "processes": len(pids),
            "worker_bytes": self._worker.memory_info().rss,
        }


def _groups(bench: Bench, supervisor: int) -> Iterator[Path]:
    place = bench.host._settings.place
    for folder in place.folders() if place else ():
        yield Path(folder, f"{PREFIX}{supervisor}")


def _most_of_group(group: Path) -> int:
    """Return the most memory that a control group of version 1 or 2 ever held; 0 for one of processors."""
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        with contextlib.suppress(FileNotFoundError):
            return int((group / name).read_text())
    return 0


def _memory_bytes(pids: list[int]) -> int:
    """Return the memory that processes have mapped, shared pages once.

    What lies in files in memory is not in it: where that is not refused it is a gap, and others on this machine
    have such files at the same time.
    """
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib << 10


def _disk_bytes(root: Path, pids: list[int]) -> int:
    """Return what lies below a folder, what processes hold open without a name that leads there, and in an own /tmp."""
    device = root.stat().st_dev
    found = list(_statuses_below(str(root)))
    in_memory = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            opened = [file.stat() for file in Path(f"/proc/{pid}/fd").iterdir()]
            found += [status for status in opened if stat.S_ISREG(status.st_mode) and status.st_dev == device]
        with contextlib.suppress(OSError):
            tmp = Path(f"/proc/{pid}/root/tmp")
            if tmp.stat().st_dev not in {device, Path("/tmp").stat().st_dev}:
                room = os.statvfs(tmp)
                in_memory = max(in_memory, (room.f_blocks - room.f_bfree) * room.f_frsize)
    return in_memory + sum({status.st_ino: status.st_blocks * 512 for status in found}.values())


def _statuses_below(folder: str) -> Iterator[os.stat_result]:
    # Thousands of files must not take so long that the most is missed.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _statuses_below(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
