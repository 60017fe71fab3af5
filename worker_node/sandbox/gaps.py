"""What a proven level does not stop on this host, in words for the owner of a worker. Pure."""

from __future__ import annotations

from typing import Final

from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.landlock import has_scopes
from worker_node.sandbox.policy import ON_LINUX, HostFacts

_SAME_USER: Final = [
    "files: all that the worker's user may read or write, its own key included",
    "processes: those of the same user can be seen, signalled and traced",
]
_OWN_USER: Final = [
    "files: all that any user of the machine may read or write",
    "processes: all can be seen",
]
_OPEN_NETWORK: Final = "network: open, also to a task that did not ask for it"
_LASTING_MEMORY: Final = (
    "lifetime: System V objects, message queues, and files in /dev/shm and /tmp, stay after their command"
)
_LASTING_FILES: Final = "lifetime: POSIX message queues, and files in /tmp, stay after their command"
_NO_KERNEL_HELP: Final = [
    "limits: not kept on this system",
    "lifetime: a daemon that leaves its process group survives, as does all when the worker is killed",
]
_SHARED_NETWORK: Final = "network: a task that asks for it reaches all that this machine reaches, its own services too"
_ABSTRACT_SOCKETS: Final = "network: with it, abstract UNIX sockets of the host can be reached (no Landlock scopes)"
_POLLED_MEMORY: Final = (
    "limits: memory is polled: exceeded for a tenth of a second, and what the kernel holds for a task is not counted"
)
_HIDDEN_MEMORY: Final = "limits: memory in files (memfd, System V, /dev/shm) is not counted"
_MEMORY_DISK: Final = "limits: /tmp and /dev/shm lie in memory and come on top of the memory limit"
_POLLED_DISK: Final = "limits: disk of a whole task is polled, so it can be exceeded for a tenth of a second"
_POLLED_PROCESSES: Final = "limits: the number of processes is polled"


def gaps_of(level: SandboxLevel, backend: str, facts: HostFacts, *, allows_network: bool = True) -> list[str]:
    """Return what stays open at a level."""
    is_isolated = level.rank >= SandboxLevel.STRICT.rank
    gaps = []
    if not is_isolated:
        gaps += [*(_OWN_USER if facts.has_own_users else _SAME_USER), _OPEN_NETWORK]
    if not is_isolated:
        gaps.append(_LASTING_FILES if facts.has_own_users else _LASTING_MEMORY)
    if level is SandboxLevel.NONE:
        gaps.append("environment: the worker's, without OCTASKLY_*")
    if level is SandboxLevel.STRICT and allows_network:
        gaps.append(_SHARED_NETWORK)
        if not has_scopes(facts.landlock_abi):
            gaps.append(_ABSTRACT_SOCKETS)
    if backend not in ON_LINUX:
        return gaps + _NO_KERNEL_HELP
    if not facts.has_memory_group:
        gaps.append(_POLLED_MEMORY)
        if not is_isolated:
            gaps.append(_HIDDEN_MEMORY)
        if level is SandboxLevel.VERY_STRICT:
            gaps.append(_MEMORY_DISK)
    if level is not SandboxLevel.VERY_STRICT:
        gaps.append(_POLLED_DISK)
    if not (is_isolated or facts.has_own_users):
        gaps.append(_POLLED_PROCESSES)
    return gaps
