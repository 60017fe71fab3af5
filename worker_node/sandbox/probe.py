"""Prove sandbox levels with real commands: a level is offered for what it did, never for what should work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from octaskly_wire.messages import AssignAttempt, LevelProof
from octaskly_wire.vocabulary import OutputStream, SandboxLevel
from worker_node.sandbox import proc_tree
from worker_node.sandbox.canary import STOPPED, attacks, namespaces
from worker_node.sandbox.cgroup import PREFIX
from worker_node.sandbox.gaps import gaps_of
from worker_node.sandbox.host import CommandEnd, EndCause, Host
from worker_node.sandbox.limits import NO_SETTINGS
from worker_node.sandbox.policy import INSIDE, ON_LINUX, Backend, SandboxPlan, plan_attempt
from worker_node.sandbox.workspace import Workspaces

PROBE_TIMEOUT_S: Final = 10
CANARY: Final = "planted-by-the-probe"
_PLANTED: Final = {"OCTASKLY_JOIN_TOKEN": CANARY, "PROBE_SECRET": CANARY}
EXIT_CODE: Final = 7

_POSIX_COMMAND: Final = r"""
echo "pwd=$(pwd -P)"; echo "home=$HOME"; echo "tmpdir=$TMPDIR"; echo "umask=$(umask)"
echo "core=$(ulimit -c)"; echo "files=$(ulimit -n)"; echo "task=$OCTASKLY_TASK_ID"
echo "ours=$OCTASKLY_JOIN_TOKEN"; echo "secret=$PROBE_SECRET"
while read -r name value; do
  case "$name" in NoNewPrivs:) echo "nnp=$value";; Uid:) echo "uid=$value";; esac
done 2>/dev/null </proc/self/status
while read -r line; do case "$line" in *octaskly-*) echo "group=$line";; esac; done 2>/dev/null </proc/self/cgroup
( trap '' HUP; exec sleep 600 ) </dev/null >/dev/null 2>&1 &
echo "left=$!"
echo canary >&2
exit 7
"""
_WINDOWS_COMMAND: Final = "echo task=%OCTASKLY_TASK_ID%& echo ours=%OCTASKLY_JOIN_TOKEN%& echo canary 1>&2 & exit /b 7"


_NEED_NAMESPACES: Final = frozenset({Backend.NAMESPACES, Backend.NAMESPACES_AND_LANDLOCK})
_FORBIDDING: Final = {
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
}


@dataclass(frozen=True)
class LevelReport:
    """What the probe found about one level."""

    level: SandboxLevel
    is_proven: bool
    backend: str = ""
    gaps: list[str] = field(default_factory=list)
    why_not: str = ""
    is_passing: bool = False
    """Not proven for want of room to try, which may come back."""

    def proof(self) -> LevelProof:
        """Return the report as it travels in Register."""
        return LevelProof(self.level, self.backend, self.gaps)


def backend_here() -> Backend:
    """Return what carries plans out on this system."""
    if sys.platform == "linux":
        return Backend.SPAWNER
    return Backend.WINDOWS if sys.platform == "win32" else Backend.POSIX


async def prove_levels(host: Host, workspaces: Workspaces, *, allows_network: bool = True) -> list[LevelReport]:
    """Run canaries at each level and report every level, weakest first.

    `allows_network` is whether tasks may have the network here, which opens a gap.
    """
    return [await _prove(level, host, workspaces, allows_network=allows_network) for level in SandboxLevel]


def table(reports: Sequence[LevelReport]) -> str:
    """Return the reports for a person to read."""
    lines = [f"{'level':<12} {'proven':<7} how"]
    for report in reports:
        how = report.backend if report.is_proven else report.why_not
        lines.append(f"{report.level:<12} {'yes' if report.is_proven else 'no':<7} {how}")
        lines += [f"{'':<20} open: {gap}" for gap in report.gaps]
    return "\n".join(lines)


def backend_for(level: SandboxLevel, host: Host) -> Backend | None:
    """Return what would enforce a level on this system, None when nothing does."""
    if sys.platform != "linux":
        # basic on Windows needs Job Objects, which the portable host does not use.
        strongest = SandboxLevel.NONE if sys.platform == "win32" else SandboxLevel.BASIC
        return backend_here() if level.rank <= strongest.rank else None
    if level is SandboxLevel.VERY_STRICT:
        return Backend.NAMESPACES_AND_LANDLOCK if host.facts.landlock_abi else None
    return Backend.NAMESPACES if level is SandboxLevel.STRICT else Backend.SPAWNER


def why_not_tried(level: SandboxLevel) -> str:
    """Return why this system has no backend for a level."""
    if sys.platform == "linux":
        return "this kernel has no Landlock"
    if level is SandboxLevel.BASIC:
        return "needs Job Objects, which this version does not use"
    return "needs namespaces and system call filters, which only Linux has"


async def _prove(level: SandboxLevel, host: Host, workspaces: Workspaces, *, allows_network: bool) -> LevelReport:
    backend = backend_for(level, host)
    if backend is None:
        return LevelReport(level, is_proven=False, why_not=why_not_tried(level))
    try:
        folder = workspaces.create(f"probe-{level}")
    except OSError as error:
        return LevelReport(level, is_proven=False, why_not=f"no working folder: {error}", is_passing=True)
    try:
        failures = await _failures(level, backend, host, workspaces.root, folder)
    except OSError as error:
        return LevelReport(level, is_proven=False, why_not=f"cannot be tried: {error}", is_passing=True)
    finally:
        await asyncio.to_thread(workspaces.wipe, folder)
    if failures:
        hint = forbidden_namespaces() if backend in _NEED_NAMESPACES else ""
        return LevelReport(level, is_proven=False, why_not="; ".join(failures) + hint)
    gaps = gaps_of(level, backend, host.facts, allows_network=allows_network)
    return LevelReport(level, is_proven=True, backend=backend, gaps=gaps)


def forbidden_namespaces(settings: Path = Path("/proc/sys")) -> str:
    """Return which setting of the system forbids user namespaces, as a remark for its owner, empty when none does."""
    for name, forbids in _FORBIDDING.items():
        with contextlib.suppress(OSError):
            if (settings / name).read_text().strip() == forbids:
                return f" (this system forbids user namespaces: {name.replace('/', '.')} = {forbids})"
    return ""


async def _failures(level: SandboxLevel, backend: Backend, host: Host, root: Path, folder: Path) -> list[str]:
    """Return what did not hold at a level."""
    command = _WINDOWS_COMMAND if backend is Backend.WINDOWS else _POSIX_COMMAND
    name = f"probe-{level}"
    assignment = AssignAttempt(
        attempt_id=name, task_id=name, command=command, timeout_s=PROBE_TIMEOUT_S, sandbox=level, allows_network=False
    )
    env = {**os.environ, **_PLANTED}
    plan = plan_attempt(assignment, backend, host.seen_by_command(folder), env, host.facts, NO_SETTINGS)
    song = await run_plan(host, plan)
    failures = judge(song, plan)
    if plan.terms.sandbox is None or failures:
        return failures
    with Bait(root) as bait:
        facts = bait.facts | {
            "denies_hidden_memory": plan.terms.sandbox.denies_hidden_memory,
            "tmp_bytes": plan.terms.sandbox.tmp_bytes,
        }
        return bait.failures(await run_plan(host, msgspec.structs.replace(plan, canary=facts)), facts)


async def run_plan(host: Host, plan: SandboxPlan) -> Song:
    """Run a plan to its end and return what was heard of it."""
    song = Song()
    host.launch(plan, song)
    await song.is_over.wait()
    return song


class Bait:
    """What the attacks go for: a file among the workspaces, a folder of the host, and two listening sockets."""

    def __init__(self, root: Path) -> None:
        """Choose names; nothing is made yet."""
        name = f"octaskly-canary-{secrets.token_hex(8)}"
        self._secret = root / name
        self._outside = Path("/tmp", name)  # noqa: S108 - where anybody may write
        self._listeners = [socket.socket(family) for family in (socket.AF_INET, socket.AF_UNIX)]
        self._abstract = name

    def __enter__(self) -> Self:
        """Lay it out."""
        self._secret.touch(mode=0o600)  # empty: there may be no room for more
        tcp, abstract = self._listeners
        tcp.bind(("127.0.0.1", 0))
        abstract.bind("\0" + self._abstract)
        for listener in self._listeners:
            listener.listen()
            listener.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._secret.unlink(missing_ok=True)
        self._outside.unlink(missing_ok=True)
        for listener in self._listeners:
            listener.close()

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the attacks need to know."""
        return {
            "secret": str(self._secret),
            "outside": str(self._outside),
            "namespaces": namespaces(),
            "worker_pid": os.getpid(),
            "port": self._listeners[0].getsockname()[1],
            "abstract": self._abstract,
        }

    def failures(self, song: Song, facts: Mapping[str, Any]) -> list[str]:
        """Return what got through, by the attacks' own word and by what happened here."""
        if song.end is None:
            return [song.refusal]
        verdicts = dict(line.split(": ", 1) for line in song.text("stdout").splitlines() if ": " in line)
        expected = attacks(dict(facts))
        failures = [f"{name}: {verdicts.get(name, 'not tried')}" for name in expected if verdicts.get(name) != STOPPED]
        if self._outside.exists():
            failures.append("a file of the command came out")
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                failures.append("a connection of the command came out")
        return failures


class Song:
    """Hears of one canary command."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.is_over = asyncio.Event()
        self.output: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}
        self.end: CommandEnd | None = None
        self.refusal = ""

    def text(self, stream: OutputStream) -> str:
        """Return what came out."""
        return self.output[stream].decode(errors="replace")

    def started(self, at: float) -> None:
        """Hear that the command runs."""

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        """Take output."""
        self.output[stream] += data

    def ended(self, end: CommandEnd) -> None:
        """Hear that no process of the command is left."""
        self.end = end
        self.is_over.set()

    def refused(self, detail: str) -> None:
        """Hear that the command never ran."""
        self.refusal = detail
        self.is_over.set()


def judge(song: Song, plan: SandboxPlan) -> list[str]:
    """Return what did not hold of what every command of the plan's level is promised."""
    if song.end is None:
        return [song.refusal]
    if song.end.cause is EndCause.LOST:
        return [song.end.detail]
    folder = INSIDE if plan.terms.sandbox else os.path.realpath(plan.workspace)
    seen = dict(line.strip().split("=", 1) for line in song.text("stdout").splitlines() if "=" in line)
    checks = {
        "the command did not run to its end": song.end.cause is EndCause.EXITED,
        "the exit code got lost": song.end.exit_code == EXIT_CODE,
        "standard error got lost": song.text("stderr").strip() == "canary",
        "a secret of the worker was visible": CANARY not in seen.get("ours", ""),
    }
    if plan.terms.level is not SandboxLevel.VERY_STRICT:
        checks["the task's id got lost"] = seen.get("task") == plan.env["OCTASKLY_TASK_ID"]
    if plan.terms.backend != Backend.WINDOWS:
        checks |= {
            "the working folder is wrong": seen.get("pwd") == folder,
            "the umask is not 077": seen.get("umask", "").lstrip("0") == "77",
        }
    if plan.terms.backend != Backend.WINDOWS and plan.terms.sandbox is None:
        checks["a background process outlived its command"] = not _is_alive(seen.get("left", ""))
    if plan.terms.backend in ON_LINUX:
        allowed = plan.terms.limits.open_files
        checks |= {
            "core dumps are on": seen.get("core") == "0",
            "open files are not limited": seen.get("files", "").isdigit() and int(seen["files"]) <= allowed,
            "the command ran as root": seen.get("uid", "0").split()[:1] != ["0"],
        }
        if plan.terms.group_bytes and plan.terms.sandbox is None:
            checks["no control group holds the memory"] = PREFIX in seen.get("group", "")
    if plan.terms.level is not SandboxLevel.NONE:
        checks |= {
            "the worker's environment was visible": seen.get("secret") == "",
            "HOME is not the working folder": os.path.realpath(seen.get("home", "")) == os.path.realpath(folder),
            "TMPDIR is not the working folder": os.path.realpath(seen.get("tmpdir", "")) == os.path.realpath(folder),
        }
        if plan.terms.backend in ON_LINUX:
            checks["new privileges are possible"] = seen.get("nnp") == "1"
    return [text for text, holds in checks.items() if not holds]


def _is_alive(pid_text: str) -> bool:
    if not pid_text.isdigit():
        return True
    if sys.platform == "linux":
        return proc_tree.is_alive(int(pid_text))
    import psutil

    try:
        return bool(psutil.Process(int(pid_text)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
