"""Two network namespaces joined by a cable: two machines on a LAN, as far as multicast can tell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class NamespacesUnavailable(Exception):
    """This host does not let the tests make network namespaces; the message says why."""


@dataclass(frozen=True)
class Machine:
    """One end of the cable."""

    namespace: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs `arguments` on this machine; `ip` execs it, so the pid is its own."""
        return ["ip", "netns", "exec", self.namespace, *arguments]


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Make the pair, and take it away again; raises NamespacesUnavailable."""
    if os.geteuid() != 0:
        raise NamespacesUnavailable("needs root to make network namespaces")
    if shutil.which("ip") is None:
        raise NamespacesUnavailable("needs `ip` (package iproute2)")
    tag = f"ok{os.getpid()}"
    left, right = Machine(f"{tag}a", "10.217.0.1"), Machine(f"{tag}b", "10.217.0.2")
    try:
        for machine in (left, right):
            _ip("netns", "add", machine.namespace)
        _ip(
            "link",
            "add",
            left.namespace,
            "netns",
            left.namespace,
            "type",
            "veth",
            "peer",
            "name",
            right.namespace,
            "netns",
            right.namespace,
        )
        for machine in (left, right):
            inside = ("-n", machine.namespace)
            _ip(*inside, "addr", "add", f"{machine.address}/24", "dev", machine.namespace)
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "link", "set", machine.namespace, "up", "multicast", "on")
            _ip(*inside, "route", "add", "224.0.0.0/4", "dev", machine.namespace)
        yield left, right
    finally:
        for machine in (left, right):
            subprocess.run(["ip", "netns", "delete", machine.namespace], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NamespacesUnavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
