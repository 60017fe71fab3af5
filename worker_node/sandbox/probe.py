"""Prove sandbox levels with real commands: a level is offered for what it did, never for what should work."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from octaskly_wire.messages import AssignAttempt, LevelProof
from octaskly_wire.vocabulary import OutputStream, SandboxLevel
from worker_node.sandbox.host import CommandEnd, EndCause, Host
from worker_node.sandbox.policy import Backend, plan_attempt
from worker_node.sandbox.workspace import Workspaces

PROBE_TIMEOUT_S: Final = 10
CANARY: Final = "planted-by-the-probe"
_PLANTED: Final = {"OCTASKLY_JOIN_TOKEN": CANARY, "PROBE_SECRET": CANARY}
EXIT_CODE: Final = 7

_POSIX_COMMAND: Final = r"""
echo "pwd=$(pwd -P)"; echo "home=$HOME"; echo "tmpdir=$TMPDIR"; echo "umask=$(umask)"
echo "core=$(ulimit -c)"; echo "files=$(ulimit -n)"; echo "task=$OCTASKLY_TASK_ID"
echo "ours=$OCTASKLY_JOIN_TOKEN"; echo "secret=$PROBE_SECRET"
while read -r name value; do case "$name" in NoNewPrivs:) echo "nnp=$value";; esac; done 2>/dev/null </proc/self/status
( trap '' HUP; exec sleep 600 ) </dev/null >/dev/null 2>&1 &
echo "left=$!"
echo canary >&2
exit 7
"""
_WINDOWS_COMMAND: Final = "echo task=%OCTASKLY_TASK_ID%& echo ours=%OCTASKLY_JOIN_TOKEN%& echo canary 1>&2 & exit /b 7"

_NO_ISOLATION: Final = [
    "files: all that the worker's user may read or write, its own key included",
    "network: open, also to a task that did not ask for it",
    "processes: those of the same user can be seen, signalled and traced",
]
_NO_KERNEL_HELP: Final = [
    "limits: not kept on this system",
    "lifetime: a daemon that leaves its process group survives, as does all when the worker is killed",
]


@dataclass(frozen=True)
class LevelReport:
    """What the probe found about one level."""

    level: SandboxLevel
    is_proven: bool
    backend: str = ""
    gaps: list[str] = field(default_factory=list)
    why_not: str = ""

    def proof(self) -> LevelProof:
        """Return the report as it travels in Register."""
        return LevelProof(self.level, self.backend, self.gaps)


def backend_here() -> Backend:
    """Return what carries plans out on this system."""
    if sys.platform == "linux":
        return Backend.SPAWNER
    return Backend.WINDOWS if sys.platform == "win32" else Backend.POSIX


async def prove_levels(host: Host, workspaces: Workspaces) -> list[LevelReport]:
    """Run a canary at each level and report every level, weakest first."""
    backend = backend_here()
    reports = [await _prove(level, backend, host, workspaces) for level in _tried(backend)]
    done = {report.level for report in reports}
    return reports + [
        LevelReport(level, is_proven=False, why_not=_why_not_tried(level))
        for level in SandboxLevel
        if level not in done
    ]


def table(reports: Sequence[LevelReport]) -> str:
    """Return the reports for a person to read."""
    lines = [f"{'level':<12} {'proven':<7} how"]
    for report in reports:
        how = report.backend if report.is_proven else report.why_not
        lines.append(f"{report.level:<12} {'yes' if report.is_proven else 'no':<7} {how}")
        lines += [f"{'':<20} open: {gap}" for gap in report.gaps]
    return "\n".join(lines)


def _tried(backend: Backend) -> list[SandboxLevel]:
    # basic on Windows needs Job Objects, which the portable host does not use.
    return [SandboxLevel.NONE] if backend is Backend.WINDOWS else [SandboxLevel.NONE, SandboxLevel.BASIC]


def _why_not_tried(level: SandboxLevel) -> str:
    if level is SandboxLevel.BASIC:
        return "needs Job Objects, which this version does not use"
    return "namespaces and system call filters are not part of this version"


async def _prove(level: SandboxLevel, backend: Backend, host: Host, workspaces: Workspaces) -> LevelReport:
    name = f"probe-{level}"
    try:
        folder = workspaces.create(name)
    except OSError as error:
        return LevelReport(level, is_proven=False, why_not=f"no working folder: {error}")
    command = _WINDOWS_COMMAND if backend is Backend.WINDOWS else _POSIX_COMMAND
    assignment = AssignAttempt(
        attempt_id=name, task_id=name, command=command, timeout_s=PROBE_TIMEOUT_S, sandbox=level, allows_network=False
    )
    canary = _Canary(str(folder.resolve()))
    try:
        host.launch(plan_attempt(assignment, backend, str(folder), {**os.environ, **_PLANTED}), canary)
        await canary.is_over.wait()
    finally:
        await asyncio.to_thread(workspaces.wipe, folder)
    failures = canary.failures(level, backend, name)
    if failures:
        return LevelReport(level, is_proven=False, why_not="; ".join(failures))
    return LevelReport(level, is_proven=True, backend=backend, gaps=_gaps(level, backend))


def _gaps(level: SandboxLevel, backend: Backend) -> list[str]:
    gaps = list(_NO_ISOLATION)
    if level is SandboxLevel.NONE:
        gaps.append("environment: the worker's, without OCTASKLY_*")
    if backend is not Backend.SPAWNER:
        gaps += _NO_KERNEL_HELP
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        gaps.append("user: commands run as root, because the worker does")
    return gaps


class _Canary:
    """Hears of one canary command and judges it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.is_over = asyncio.Event()
        self._output: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}
        self._end: CommandEnd | None = None
        self._refusal = ""

    def started(self) -> None:
        return

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        self._output[stream] += data

    def ended(self, end: CommandEnd) -> None:
        self._end = end
        self.is_over.set()

    def refused(self, detail: str) -> None:
        self._refusal = detail
        self.is_over.set()

    def failures(self, level: SandboxLevel, backend: Backend, task_id: str) -> list[str]:
        """Return what did not hold."""
        if self._end is None:
            return [self._refusal]
        text = self._output["stdout"].decode(errors="replace")
        seen = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
        checks = {
            "the command did not run to its end": self._end.cause is EndCause.EXITED,
            "the exit code got lost": self._end.exit_code == EXIT_CODE,
            "standard error got lost": self._output["stderr"].strip() == b"canary",
            "the task's id got lost": seen.get("task") == task_id,
            "a secret of the worker was visible": CANARY not in seen.get("ours", ""),
        }
        if backend is not Backend.WINDOWS:
            checks |= {
                "the working folder is wrong": seen.get("pwd") == self._folder,
                "the umask is not 077": seen.get("umask", "").lstrip("0") == "77",
                "a background process outlived its command": not _is_alive(seen.get("left", "")),
            }
        if backend is Backend.SPAWNER:
            checks |= {
                "core dumps are on": seen.get("core") == "0",
                "open files are not limited": seen.get("files", "").isdigit() and int(seen["files"]) <= 1024,  # noqa: PLR2004
            }
        if level is not SandboxLevel.NONE:
            checks |= {
                "the worker's environment was visible": seen.get("secret") == "",
                "HOME is not the working folder": os.path.realpath(seen.get("home", "")) == self._folder,
                "TMPDIR is not the working folder": os.path.realpath(seen.get("tmpdir", "")) == self._folder,
            }
            if backend is Backend.SPAWNER:
                checks["new privileges are possible"] = seen.get("nnp") == "1"
        return [text for text, holds in checks.items() if not holds]


def _is_alive(pid_text: str) -> bool:
    if not pid_text.isdigit():
        return True
    try:
        return bool(psutil.Process(int(pid_text)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
