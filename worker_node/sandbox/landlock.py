"""The second wall of very_strict: Landlock rules over a root that holds little already. Standard library only.

Where the mount table says what can be seen, these rules say again, from another part of the kernel, that
only /tmp and /dev take writes, that there is no TCP, and that signals and abstract sockets stay inside.
"""

from __future__ import annotations

import os

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

_READ: Final = 0b1101  # execute, read a file, list a folder
_WRITE_FILE: Final = 0b10
_ALL_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_IOCTL_DEVICE: Final = 1 << 15
_NETWORK_FROM_ABI: Final = 4
_SCOPES_FROM_ABI: Final = 6
_TCP: Final = 0b11  # bind, connect
_SCOPE_ABSTRACT_SOCKETS: Final = 0b01
_SCOPE_SIGNALS: Final = 0b10

WRITABLE: Final = ("/tmp", "/dev/shm")  # noqa: S108 - the sandbox's own


def restrict(abi: int) -> None:
    """Put the rules of very_strict over this process; raise OSError when one cannot be made."""
    everything = _ALL_BY_ABI[min(abi, max(_ALL_BY_ABI))]
    network = _TCP if abi >= _NETWORK_FROM_ABI else 0
    scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= _SCOPES_FROM_ABI else 0
    ruleset = kernel.landlock_ruleset(everything, network, scopes)
    try:
        kernel.landlock_allow(ruleset, _READ, "/")
        kernel.landlock_allow(ruleset, everything & (_READ | _WRITE_FILE | _IOCTL_DEVICE), "/dev")
        for folder in WRITABLE:
            kernel.landlock_allow(ruleset, everything, folder)
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def keep_sockets_inside() -> None:
    """Close the abstract sockets of the host to a command that shares its network."""
    ruleset = kernel.landlock_ruleset(0, 0, _SCOPE_ABSTRACT_SOCKETS)
    try:
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def has_scopes(abi: int) -> bool:
    """Return whether this kernel can keep abstract sockets inside."""
    return abi >= _SCOPES_FROM_ABI
