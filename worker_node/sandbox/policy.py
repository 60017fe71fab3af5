"""Decide how one attempt is run: the level's promises and the task's limits become a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from octaskly_wire.limits import CANCEL_GRACE_S
from octaskly_wire.messages import AssignAttempt, InputFile, Limits
from octaskly_wire.vocabulary import Enforcement, SandboxLevel
from worker_node.sandbox.environment import task_environment
from worker_node.sandbox.limits import EffectiveLimits, LimitSettings, effective_limits

OOM_SCORE_ADJ: Final = 500
LEAST_INHERITED: Final = {"open_files": 64, "data_bytes": 256 << 20}
"""Limits that a supervisor can live under itself; below them it forks for the command."""
PAGE_BYTES: Final = 4096
"""What a file or a folder counts at least, on disk and in memory."""
SHELL: Final = "/bin/sh"
INSIDE: Final = "/tmp"  # noqa: S108 - the sandbox's own
"""Where a sandboxed command finds its working folder."""


Outfit = tuple[bool, tuple[tuple[str, int], ...]]
"""Whether new privileges are forbidden, and the limits."""


class Backend(StrEnum):
    """What carries a plan out; the value stands in outcomes."""

    SPAWNER = "linux-spawner"
    NAMESPACES = "linux-namespaces"
    NAMESPACES_AND_LANDLOCK = "linux-namespaces-landlock"
    POSIX = "posix-group"
    WINDOWS = "windows-tree"


ON_LINUX: Final = frozenset({Backend.SPAWNER, Backend.NAMESPACES, Backend.NAMESPACES_AND_LANDLOCK})


class HostFacts(msgspec.Struct, frozen=True, cache_hash=True):
    """What the host lets the spawner do beyond what it must do; found out once, when the worker starts."""

    has_memory_group: bool = False
    """The kernel holds the memory of a whole tree of processes."""
    has_own_users: bool = False
    """Each slot's commands run as a user of their own."""
    landlock_abi: int = 0


class SandboxSpec(msgspec.Struct, frozen=True):
    """What a sandbox of namespaces shall be like."""

    allows_network: bool
    tmp_bytes: int
    """Size of a /tmp in memory; 0 for the workspace on disk."""
    landlock_abi: int
    is_very_strict: bool
    denies_hidden_memory: bool
    """No memory that polling a tree of processes would not see."""
    keeps_tmp: bool = False
    """A /tmp in memory outlives the sandbox until its outputs are collected."""


class Terms(msgspec.Struct, frozen=True):
    """What all attempts of a kind have in common, made once for them."""

    level: SandboxLevel
    backend: str
    timeout_s: int
    limits: EffectiveLimits
    rlimits: Mapping[str, int]
    polled: Mapping[str, int]
    group_bytes: int
    """Memory that a control group holds; 0 without one."""
    enforcement: dict[str, Enforcement]
    no_new_privileges: bool
    sandbox: SandboxSpec | None
    inheritable: tuple[tuple[str, int], ...] | None
    """The kernel's limits, where who starts the command can live under them too and need not fork for it; else None."""
    outfit: Outfit | None
    """What a supervisor puts on for ever to start this command; None where it starts none itself so."""
    inputs: Sequence[str]
    """Names of the files that wait in the workspace for the command."""


class SandboxPlan(msgspec.Struct, frozen=True, gc=False):
    """Everything needed to start one command. No step of it is optional."""

    attempt_id: str
    command: str
    workspace: str
    env: Mapping[str, str]
    terms: Terms
    canary: Mapping[str, Any] | None = None
    """Facts for the probe's attacks, which then run where the command would."""

    @property
    def argv(self) -> list[str]:
        """Return what is executed."""
        return [SHELL, "-c", self.command]

    def for_spawner(self) -> dict[str, Any]:
        """Return the plan as a supervisor reads it."""
        terms = self.terms
        can_inherit = terms.inheritable is not None and not self.canary
        return {
            "argv": self.argv,
            "env": dict(self.env),
            "workspace": self.workspace,
            "timeout_s": terms.timeout_s,
            "grace_s": CANCEL_GRACE_S,
            "memory_bytes": terms.limits.memory_bytes,
            "group_bytes": terms.group_bytes,
            "rlimits": dict(terms.rlimits),
            "polled": dict(terms.polled),
            "no_new_privileges": terms.no_new_privileges,
            "oom_score_adj": OOM_SCORE_ADJ,
            "sandbox": msgspec.structs.asdict(terms.sandbox) if terms.sandbox else None,
            "inputs": list(terms.inputs),
            "folders": folders_of(terms.inputs),
            "canary": dict(self.canary) if self.canary else None,
            "inherits": can_inherit and not terms.sandbox,
            "inherits_inside": can_inherit and terms.sandbox is not None,
        }

    def changes_since(self, before: SandboxPlan) -> tuple[dict[str, Any], dict[str, str]] | None:
        """Return what is new since another plan, and in its environment; None when more differs than that can say."""
        env_before = before.env
        if (
            self.terms != before.terms
            or self.canary != before.canary
            or not env_before.keys() <= self.env.keys()  # what is gone cannot be told
        ):
            return None
        changes: dict[str, Any] = {}
        if self.command != before.command:
            changes["argv"] = self.argv
        if self.workspace != before.workspace:
            changes["workspace"] = self.workspace
        return changes, {name: value for name, value in self.env.items() if value != env_before.get(name)}


def plan_attempt(
    assignment: AssignAttempt,
    backend: str,
    workspace: str,
    worker_env: Mapping[str, str],
    facts: HostFacts,
    settings: LimitSettings,
) -> SandboxPlan:
    """Turn an assignment into a plan. Only the spawner keeps limits, so only its plans say that they are kept."""
    terms = _terms(
        assignment.sandbox,
        backend,
        assignment.timeout_s,
        assignment.limits,
        facts,
        settings,
        tuple([file.name for file in assignment.inputs]),
        room_of(assignment.inputs),
        allows_network=assignment.allows_network,
        has_outputs=bool(assignment.outputs),
    )
    env = task_environment(assignment, INSIDE if terms.sandbox else workspace, worker_env)
    return SandboxPlan(assignment.attempt_id, assignment.command, workspace, env, terms)


def folders_of(names: Iterable[str]) -> list[str]:
    """Return the folders that files of these names lie in, each after the one that it lies in."""
    folders = {name[:index] for name in names for index, character in enumerate(name) if character == "/"}
    return sorted(folders)


def room_of(inputs: Sequence[InputFile]) -> int:
    """Return how many bytes the inputs take in the workspace, as its measure counts: the disk limit is on top."""
    if not inputs:
        return 0
    pages = [max(1, -(-file.size_bytes // PAGE_BYTES)) for file in inputs]
    return (sum(pages) + len(folders_of(file.name for file in inputs))) * PAGE_BYTES


@lru_cache(maxsize=256)
def _terms(
    level: SandboxLevel,
    backend: str,
    timeout_s: int,
    asked: Limits,
    facts: HostFacts,
    settings: LimitSettings,
    inputs: tuple[str, ...],
    room_bytes: int,
    *,
    allows_network: bool,
    has_outputs: bool,
) -> Terms:
    limits = effective_limits(asked, level, settings)
    sandbox = None
    if level.rank >= SandboxLevel.STRICT.rank:
        sandbox = _sandbox(level, limits, facts, inputs, allows_network=allows_network, has_outputs=has_outputs)
    rlimits, polled, enforcement, inheritable = _limits(limits, sandbox, facts, room_bytes)
    if backend not in ON_LINUX:
        rlimits, polled, enforcement, inheritable = {}, {}, {}, ()
    no_new_privileges = level is not SandboxLevel.NONE
    return Terms(
        level=level,
        backend=backend,
        timeout_s=timeout_s,
        limits=limits,
        rlimits=rlimits,
        polled=polled,
        group_bytes=limits.memory_bytes if facts.has_memory_group else 0,
        enforcement=enforcement,
        no_new_privileges=no_new_privileges,
        sandbox=sandbox,
        inheritable=inheritable,
        outfit=None if sandbox or inheritable is None else (no_new_privileges, inheritable),
        inputs=inputs,
    )


def _sandbox(
    level: SandboxLevel,
    limits: EffectiveLimits,
    facts: HostFacts,
    inputs: tuple[str, ...],
    *,
    allows_network: bool,
    has_outputs: bool,
) -> SandboxSpec:
    is_very_strict = level is SandboxLevel.VERY_STRICT
    allows_network = allows_network and not is_very_strict
    # The inputs lie beside the /tmp in memory and are shown in it; what they hang on takes a page each.
    shown_bytes = (len(inputs) + len(folders_of(inputs))) * PAGE_BYTES
    return SandboxSpec(
        allows_network=allows_network,
        tmp_bytes=limits.disk_bytes + shown_bytes if is_very_strict else 0,
        # At strict it only keeps the host's abstract sockets away, which an own network does already.
        landlock_abi=facts.landlock_abi if is_very_strict or allows_network else 0,
        is_very_strict=is_very_strict,
        denies_hidden_memory=is_very_strict or not facts.has_memory_group,
        keeps_tmp=is_very_strict and has_outputs,
    )


def _limits(
    limits: EffectiveLimits, sandbox: SandboxSpec | None, facts: HostFacts, room_bytes: int
) -> tuple[dict[str, int], dict[str, int], dict[str, Enforcement], tuple[tuple[str, int], ...] | None]:
    """Return kernel limits (each binds one process), polled limits (the whole tree), who holds what, and the plan's `inheritable`.

    RLIMIT_AS is never used: it breaks runtimes that reserve address space. RLIMIT_NPROC counts per user and user
    namespace, so it is used only where the attempt has one of the two for itself: elsewhere one task would starve
    its neighbours. It allows one process more than the limit, and one for the sandbox's first process and one for the
    keeper of its mould: the one too many is what tells the poll that the limit was met. The disk's limit is about what
    the command writes: the room of its inputs is added.
    """
    disk_bytes = limits.disk_bytes + room_bytes
    rlimits = {"core": 0, "open_files": limits.open_files, "file_bytes": disk_bytes}
    polled = {"processes": limits.processes}
    enforcement = {
        "open_files": Enforcement.KERNEL,
        "processes": Enforcement.POLLED,
        "timeout_s": Enforcement.POLLED,
        "output_kb": Enforcement.POLLED,
    }
    if sandbox or facts.has_own_users:
        rlimits["processes"] = limits.processes + (3 if sandbox else 1)
        enforcement["processes"] = Enforcement.KERNEL
    if facts.has_memory_group:
        enforcement["memory_mb"] = Enforcement.KERNEL
    else:
        rlimits["data_bytes"] = polled["memory_bytes"] = limits.memory_bytes
        enforcement |= {"memory_mb": Enforcement.POLLED, "memory_mb_per_process": Enforcement.KERNEL}
    if sandbox and sandbox.tmp_bytes:
        enforcement["disk_mb"] = Enforcement.KERNEL
    else:
        polled["disk_bytes"] = disk_bytes
        enforcement |= {"disk_mb": Enforcement.POLLED, "disk_mb_per_file": Enforcement.KERNEL}
    if limits.cpu_seconds:
        rlimits["cpu_seconds"] = polled["cpu_seconds"] = limits.cpu_seconds
        enforcement |= {"cpu_seconds": Enforcement.POLLED, "cpu_seconds_per_process": Enforcement.KERNEL}
    # Processor time cannot be inherited: what the one who starts the command uses would count.
    is_too_low = any(rlimits.get(name, least) < least for name, least in LEAST_INHERITED.items())
    inheritable = None if is_too_low or "cpu_seconds" in rlimits else tuple(rlimits.items())
    return rlimits, polled, enforcement, inheritable
