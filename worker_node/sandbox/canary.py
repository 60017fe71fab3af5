"""The probe's attacks: they run in a real sandbox, in the place of a command, and each says what it met.

A line an attack: its name, and `stopped` or what got through. Loaded by a supervisor whose plan asks for it,
before the sandbox closes. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

STOPPED: Final = "stopped"
_MAX_VISIBLE: Final = 3
"""Processes in a new sandbox: the first one and the command."""
_KINDS: Final = ("user", "mnt", "pid", "ipc", "uts", "cgroup", "net")
_PATIENCE_S: Final = 2.0


class GotThrough(Exception):
    """An attack did what it should not be able to do."""


def attacks(facts: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return the attacks of a level: each raises OSError when it is stopped, returns or raises GotThrough if not."""
    chosen: dict[str, Callable[[], None]] = {
        "read a file of the worker": lambda: _read(facts["secret"]),
        "see a file of the worker": lambda: _stat(facts["secret"]),
        "write to the system": lambda: _create("/usr/octaskly-canary"),
        "write to the root": lambda: _create("/octaskly-canary"),
        "write where the host sees it": lambda: _leave(facts["outside"]),
        "share a namespace": lambda: _compare_namespaces(facts["namespaces"]),
        "see other processes": _count_processes,
        "signal the worker": lambda: os.kill(facts["worker_pid"], 0),
        "reach a service of the host": lambda: _connect(socket.AF_INET, ("127.0.0.1", facts["port"])),
        "reach an abstract socket": lambda: _connect(socket.AF_UNIX, "\0" + facts["abstract"]),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "make a user namespace": lambda: kernel.unshare(kernel.CLONE_NEWUSER),
        "mount": lambda: kernel.mount("tmpfs", "/tmp", "tmpfs", 0),  # noqa: S108 - the sandbox's own
        "keep a capability": _look_for_rights,
    }
    if facts["denies_hidden_memory"]:
        chosen["hide memory"] = lambda: os.close(os.memfd_create("canary"))
    if facts["tmp_bytes"]:
        chosen["have more disk than allowed"] = lambda: _measure(facts["tmp_bytes"])
        chosen["get around landlock"] = lambda: _overwrite("/proc/self/comm")
    return chosen


def sing(facts: dict[str, Any]) -> None:
    """Try all attacks and write a line for each to standard output."""
    for name, attack in attacks(facts).items():
        try:
            attack()
        except OSError as error:
            is_sick = error.errno in {errno.EMFILE, errno.ENOMEM, errno.EIO}
            verdict = f"could not be tried: {error}" if is_sick else STOPPED
        except GotThrough as error:
            verdict = str(error)
        else:
            verdict = "done"
        os.write(1, f"{name}: {verdict}\n".encode())


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _stat(path: str) -> None:
    os.stat(path)


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _leave(path: str) -> None:
    """Write to what may well be the sandbox's own folder; whether the file came out is seen outside."""
    _create(path)
    raise OSError(errno.EEXIST, "the worker looks for it")


def _overwrite(path: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"canary")
    os.close(fd)


def _connect(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as any_socket:
        any_socket.settimeout(_PATIENCE_S)
        any_socket.connect(address)


def namespaces() -> dict[str, int]:
    """Return which namespace of each kind this process is in."""
    return {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in _KINDS}


def _compare_namespaces(of_the_host: dict[str, int]) -> None:
    shared = [kind for kind, number in namespaces().items() if number == of_the_host[kind]]
    if shared:
        raise GotThrough(f"{', '.join(shared)} of the host")
    raise OSError(errno.ENOENT, "none is the host's")


def _count_processes() -> None:
    count = sum(name.isdigit() for name in os.listdir("/proc"))
    if count > _MAX_VISIBLE:
        raise GotThrough(f"{count} are visible")
    raise OSError(errno.ESRCH, "nobody else is here")


def _look_for_rights() -> None:
    fields = {}
    # As bytes: a codec that was not loaded before cannot be loaded in here.
    with open("/proc/self/status", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            fields[name.decode()] = value.strip().decode()
    held = {name: fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(fields[name], 16)}
    if held or fields["NoNewPrivs"] != "1" or fields["Seccomp"] != "2":
        raise GotThrough(f"{held}, no new privileges {fields['NoNewPrivs']}, filter {fields['Seccomp']}")
    if ctypes.CDLL(None, use_errno=True).setuid(0) == 0:
        raise GotThrough("became root")
    raise OSError(errno.EPERM, "nothing is held")


def _measure(allowed_bytes: int) -> None:
    room = os.statvfs("/tmp")  # noqa: S108 - the sandbox's own
    if room.f_blocks * room.f_frsize > allowed_bytes:
        raise GotThrough(f"{room.f_blocks * room.f_frsize} bytes in /tmp")
    raise OSError(errno.ENOSPC, "no more than allowed")
