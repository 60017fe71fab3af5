"""The environment of a command: deny by default. Pure; the worker's own environment is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import SandboxLevel

PASSED_ON: Final = frozenset({"PATH", "LANG", "TZ"})
PASSED_ON_PREFIX: Final = "LC_"
PASSED_ON_WINDOWS: Final = frozenset({"SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "WINDIR"})
"""Without these hardly any Windows program starts; they hold no secrets."""

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
OURS: Final = "OCTASKLY_"


def passed_on(level: SandboxLevel, worker_env: Mapping[str, str]) -> dict[str, str]:
    """Return what a command at this level sees of the worker's own environment."""
    if level is SandboxLevel.VERY_STRICT:
        return {}
    if level is SandboxLevel.NONE:
        return {name: value for name, value in worker_env.items() if not _is_ours(name)}
    return {name: value for name, value in worker_env.items() if _is_harmless(name)}


def task_environment(assignment: AssignAttempt, workspace: str, worker_env: Mapping[str, str]) -> dict[str, str]:
    """Return what the command sees.

    From basic upwards only listed variables of the worker pass; at none all but our own; at very_strict none, and
    three of our making stand in for them. The task's wishes go over that, and OCTASKLY_* never comes from either
    side. `workspace` is the working folder as the command sees it; of `worker_env` what `passed_on` returns is enough.
    """
    level = assignment.sandbox
    env = dict(_before_wishes(level, workspace, tuple(worker_env.items())))
    if assignment.env:
        env |= {name: value for name, value in assignment.env.items() if not _is_ours(name)}
    if level is not SandboxLevel.VERY_STRICT:
        env["OCTASKLY_TASK_ID"] = assignment.task_id
        env["OCTASKLY_ATTEMPT"] = assignment.attempt_id.rpartition(".")[2]
    return env


@lru_cache(maxsize=256)
def _before_wishes(level: SandboxLevel, workspace: str, worker_env: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    if level is SandboxLevel.VERY_STRICT:
        return {"PATH": DEFAULT_PATH, "HOME": workspace, "TMPDIR": workspace}
    env = passed_on(level, dict(worker_env))
    if level is not SandboxLevel.NONE:
        if not PASSED_ON_WINDOWS.isdisjoint(map(str.upper, env)):
            env |= {"USERPROFILE": workspace, "TEMP": workspace, "TMP": workspace}
        env |= {"TERM": "dumb", "HOME": workspace, "TMPDIR": workspace}
    env.setdefault("PATH", DEFAULT_PATH)
    return env


def _is_ours(name: str) -> bool:
    return name.upper().startswith(OURS)


def _is_harmless(name: str) -> bool:
    return name in PASSED_ON or name.startswith(PASSED_ON_PREFIX) or name.upper() in PASSED_ON_WINDOWS
