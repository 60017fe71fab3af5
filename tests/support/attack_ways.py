"""The ways to run attacks, from no sandbox at all to our strictest, and the verdict on each attack.

`measure(way)` runs all attacks one way. The ways: `plain`, a subprocess and nothing else; `bwrap`, a sandbox known
to be good, set up like our level strict but without a filter of system calls; our own levels by their names; and
`strict+network` for a task that asked for the network and got it. It can be called in another process, so it takes
and returns what JSON can say.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from octaskly_wire.vocabulary import SandboxLevel
from tests.support.attack_field import Field
from tests.support.attacks import ATTACKS, Attack, Trace
from tests.support.sandbox_bench import SECRET, Bench
from worker_node.sandbox.probe import prove_levels

PLAIN, BWRAP = "plain", "bwrap"
AT_ONCE = 2
PATIENCE_S = 20.0
SIGNAL_COMES_WITHIN_S = 2.0
MAX_COMMAND_BYTES = 64 << 10
SYSTEM_PYTHONS = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
ESCAPED = "ESCAPED"

_VERDICT = re.compile(r"(ESCAPED|stopped: .+|n/a: .+)\n")


class WayUnavailable(Exception):
    """Commands cannot be run this way on this machine; the message says why."""


class LevelUnproven(Exception):
    """The worker does not offer the level; the message is what its own proof missed."""


def measure(way: str) -> dict[str, Any]:
    """Run all attacks one way; return `verdicts` by name, or the reason as `unavailable` or `unproven`."""
    try:
        return {"verdicts": asyncio.run(_measure(way))}
    except WayUnavailable as reason:
        return {"unavailable": str(reason)}
    except LevelUnproven as reason:
        return {"unproven": str(reason)}


async def _measure(way: str) -> dict[str, str]:
    python = _system_python()
    verdicts: dict[str, str] = {}
    async with Field.open() as field, _ground(way, field) as ground, ground.neighbour():
        room = asyncio.Semaphore(AT_ONCE)

        async def run(attack: Attack) -> None:
            async with room:
                verdicts[attack.name] = await _run(attack, field, ground, python)

        # The neighbour survives no signal unchanged: that attack comes when all others are over.
        last = [attack for attack in ATTACKS if attack.trace is Trace.SIGNAL_TO_NEIGHBOUR]
        await asyncio.gather(*[run(attack) for attack in ATTACKS if attack not in last])
        await asyncio.gather(*[run(attack) for attack in last])
    return verdicts


async def _run(attack: Attack, field: Field, ground: Ground, python: Path) -> str:
    mark = f"{field.mark}-{attack.name}"
    # A ceiling for the attack that raises it: not every way sets one.
    command = f"ulimit -c 0; exec {python} -I -c {shlex.quote(attack.program({**field.facts, 'MARK': mark}))}"
    assert len(command) < MAX_COMMAND_BYTES
    output = await asyncio.wait_for(ground.run(command), PATIENCE_S)
    match = _VERDICT.fullmatch(output)
    assert match, f"{attack.name} said neither that it escaped nor what stopped it: {output!r}"
    verdict = match[1]
    if attack.trace is None:
        return verdict
    if verdict != ESCAPED:
        shows = await field.shows(attack.trace, mark, patience_s=0)
        assert not shows, f"{attack.name} said {verdict!r}, but it shows on the host"
        return verdict
    patience_s = ground.leftovers_die_within_s if attack.trace is Trace.PROCESS else SIGNAL_COMES_WITHIN_S
    shows = await field.shows(attack.trace, mark, patience_s=patience_s)
    return ESCAPED if shows else "stopped: nothing of it shows on the host"


def _system_python() -> Path:
    for path in SYSTEM_PYTHONS:
        if path.exists():
            return path
    raise WayUnavailable(f"the attacks need one of {', '.join(map(str, SYSTEM_PYTHONS))}")


# --- the grounds -------------------------------------------------------------------------------------


class Ground(Protocol):
    """Where commands run."""

    leftovers_die_within_s: float
    """After the end of a command; our own levels promise that nothing is left when the end is told."""

    async def run(self, command: str) -> str:
        """Run a command to its end and return its output, with its errors behind."""

    def neighbour(self) -> AbstractAsyncContextManager[None]:
        """Keep another task running beside the attacks."""


@asynccontextmanager
async def _ground(way: str, field: Field) -> AsyncIterator[Ground]:
    with field.key.open() as key:
        if way == PLAIN:
            yield Subprocesses(field, pass_fds=[key.fileno()])
        elif way == BWRAP:
            yield Subprocesses(field, wrap=_bwrap)
        else:
            # Inherited by all that this process starts, unless somebody takes care.
            os.set_inheritable(key.fileno(), True)
            bench = Bench(field.folder)
            try:
                name, _, with_network = way.partition("+")
                yield await OnBench.at(SandboxLevel(name), bench, field, allows_network=bool(with_network))
            finally:
                await bench.runner.close()


class Subprocesses:
    """Commands as plain subprocesses, or below a program that makes a sandbox for them."""

    def __init__(
        self, field: Field, pass_fds: Sequence[int] = (), wrap: Callable[[str], list[str]] | None = None
    ) -> None:
        # bwrap ends a moment before what it held.
        self.leftovers_die_within_s = 2.0 if wrap else 0.0
        self._field = field
        self._pass_fds = pass_fds
        self._wrap = wrap

    async def run(self, command: str) -> str:
        process = await self._start(command)
        try:
            out, errors = await process.communicate()
        finally:
            _end_session(process)
        return (out + errors).decode()

    @asynccontextmanager
    async def neighbour(self) -> AsyncIterator[None]:
        process = await self._start(self._field.neighbour_command)
        try:
            await self._field.meet_neighbour(os.getpid())
            yield
        finally:
            _end_session(process)
            await process.communicate()

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        workspace = tempfile.mkdtemp(dir=self._field.work)
        return await asyncio.create_subprocess_exec(
            *(self._wrap(workspace) if self._wrap else []),
            "/bin/sh",
            "-c",
            command,
            cwd=workspace,
            env={**os.environ, "CLOUD_KEY": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self._pass_fds,
            start_new_session=True,
        )


def _end_session(process: asyncio.subprocess.Process) -> None:
    """Kill what a command left in its group. A daemon that left it is found by its mark."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class OnBench:
    """Commands of one level, all on one worker."""

    leftovers_die_within_s = 0.0

    def __init__(self, level: SandboxLevel, bench: Bench, field: Field, *, allows_network: bool) -> None:
        self._level = level
        self._bench = bench
        self._field = field
        self._allows_network = allows_network

    @classmethod
    async def at(cls, level: SandboxLevel, bench: Bench, field: Field, *, allows_network: bool) -> OnBench:
        """Return the ground if this worker offers the level."""
        report = next(report for report in await prove_levels(bench.host, bench.workspaces) if report.level is level)
        if not report.is_proven:
            raise LevelUnproven(report.why_not)
        return cls(level, bench, field, allows_network=allows_network)

    async def run(self, command: str) -> str:
        ending = await self._bench.run(command, self._level, allows_network=self._allows_network)
        assert ending.outcome is not None, ending.refusal
        return (ending.stdout + ending.outcome.stderr.data).decode()

    @asynccontextmanager
    async def neighbour(self) -> AsyncIterator[None]:
        ending = self._bench.start(self._field.neighbour_command, self._level, allows_network=self._allows_network)
        await self._field.meet_neighbour(self._bench.host.spawner_pid)
        yield
        assert not ending.is_over.is_set(), "the neighbour ended before its time"


def _bwrap(workspace: str) -> list[str]:
    """Return the command line of a sandbox like our level strict."""
    words = [_working_bwrap(), "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--uid", str(os.geteuid()), "--gid", str(os.getegid())]
    words += ["--ro-bind", "/usr", "/usr"]
    for folder in (Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64")):
        if folder.is_symlink():
            words += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.exists():
            words += ["--ro-bind", str(folder), str(folder)]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
        words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev", "--bind", workspace, "/tmp", "--chdir", "/tmp", "--clearenv"]
    return [*words, "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--"]


@functools.cache
def _working_bwrap() -> str:
    program = shutil.which("bwrap")
    if program is None:
        raise WayUnavailable("needs `bwrap` (package bubblewrap)")
    words = [program, "--unshare-all", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "/bin/true"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise WayUnavailable(f"bwrap does not work here: {done.stderr.strip()}")
    return program
