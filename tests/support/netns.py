"""Network namespaces joined by cables: machines on a LAN, as far as their programs can tell."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_numbers = itertools.count(1)
_networks = itertools.count(os.getpid())


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


@dataclass(frozen=True)
class Cabled:
    """A machine on a cable whose other end is this one."""

    machine: Machine
    here: str
    device: str

    def set_up(self, is_up: bool) -> None:
        """Put the cable's plug in here, or pull it out."""
        ip("link", "set", self.device, "up" if is_up else "down")


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Make the pair, and take it away again; raises NamespacesUnavailable."""
    _check_host()
    tag = f"ok{os.getpid()}"
    left, right = Machine(f"{tag}a", "10.217.0.1"), Machine(f"{tag}b", "10.217.0.2")
    try:
        for machine in (left, right):
            ip("netns", "add", machine.namespace)
        ip(
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
            ip(*inside, "addr", "add", f"{machine.address}/24", "dev", machine.namespace)
            ip(*inside, "link", "set", "lo", "up")
            ip(*inside, "link", "set", machine.namespace, "up", "multicast", "on")
            ip(*inside, "route", "add", "224.0.0.0/4", "dev", machine.namespace)
        yield left, right
    finally:
        for machine in (left, right):
            subprocess.run(["ip", "netns", "delete", machine.namespace], check=False, capture_output=True)


def two_addresses() -> tuple[str, str]:
    """Return the addresses of a cable's ends, unlike those of any other cable that lies here at the time."""
    network = f"10.218.{next(_networks) % 256}"
    return f"{network}.1", f"{network}.2"


@contextmanager
def namespace(kind: str) -> Iterator[str]:
    """Make a namespace and take it away again; yield its name, short enough for that of a device, too."""
    _check_host()
    name = f"ok{kind}{os.getpid()}n{next(_numbers)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def machine_on_a_cable() -> Iterator[Cabled]:
    """Make a machine with a cable to this one; raises NamespacesUnavailable."""
    with namespace("c") as name:
        here, there = two_addresses()
        cabled = Cabled(Machine(name, there), here, f"{name}h")
        ip("link", "add", cabled.device, "type", "veth", "peer", "name", name, "netns", name)
        try:
            ip("addr", "add", f"{cabled.here}/24", "dev", cabled.device)
            ip("-n", name, "addr", "add", f"{cabled.machine.address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            cabled.set_up(True)
            yield cabled
        finally:
            # The other end goes with it.
            subprocess.run(["ip", "link", "delete", cabled.device], check=False, capture_output=True)


def _check_host() -> None:
    if os.geteuid() != 0:
        raise NamespacesUnavailable("needs root to make network namespaces")
    if shutil.which("ip") is None:
        raise NamespacesUnavailable("needs `ip` (package iproute2)")


def ip(*arguments: str) -> None:
    """Run `ip`; raises NamespacesUnavailable with what it says."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NamespacesUnavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
