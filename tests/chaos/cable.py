"""A cable that loses and delays packets, between this machine and a namespace.

`tc netem` does this in the kernel, where the kernel has it; many small ones do not. Two TUN devices with this
thread between them do it everywhere.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.netns import Machine, NamespacesUnavailable, ip, namespace, two_addresses

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x1001
MTU = 1500
QUEUE_PACKETS = 2000
"""On their way at once; like any cable's end it drops what is more."""


class Cable:
    """Carries packets between two TUN devices, on a thread."""

    def __init__(self, ends: tuple[int, int], here: str, machine: Machine, seed: str) -> None:
        self.here = here
        self.machine = machine
        self.carried = 0
        self.dropped = 0
        self._ends = ends
        self._mute: frozenset[int] = frozenset()
        """Ends from which nothing is carried."""
        self._random = random.Random(seed)
        self._loss = 0.0
        self._delay_s = 0.0
        self._on_the_way: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="cable", daemon=True)
        self._thread.start()

    def set_quality(self, *, loss: float, delay_s: float) -> None:
        """Lose this part of the packets and let the others take this long, either way."""
        self._loss, self._delay_s = loss, delay_s

    def carry_only_from_here(self, is_so: bool) -> None:
        """Lose everything that comes from the machine at the other end, or carry it again."""
        self._mute = frozenset(self._ends[1:]) if is_so else frozenset()

    def close(self) -> None:
        """Cut it for good."""
        self._is_over.set()
        self._thread.join(5)

    def _carry(self) -> None:
        across = {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        with selectors.DefaultSelector() as selector:
            for end in self._ends:
                selector.register(end, selectors.EVENT_READ)
            while not self._is_over.is_set():
                due_s = self._on_the_way[0][0] - time.monotonic() if self._on_the_way else 0.1
                for key, _ in selector.select(max(0.0, min(due_s, 0.1))):
                    self._take(key.fd, across[key.fd])
                while self._on_the_way and self._on_the_way[0][0] <= time.monotonic():
                    _, _, end, packet = heapq.heappop(self._on_the_way)
                    with suppress(OSError):  # The other end is down.
                        os.write(end, packet)

    def _take(self, end: int, other: int) -> None:
        try:
            packet = os.read(end, MTU + 100)
        except OSError:
            return
        self.carried += 1
        if end in self._mute or self._random.random() < self._loss or len(self._on_the_way) >= QUEUE_PACKETS:
            self.dropped += 1
            return
        heapq.heappush(self._on_the_way, (time.monotonic() + self._delay_s, next(self._order), other, packet))


@contextmanager
def cable_of_any_quality(seed: str) -> Iterator[Cable]:
    """Lay a cable to a machine of its own, and take both away again; raises NamespacesUnavailable."""
    with namespace("t") as name:
        here, there = two_addresses()
        machine = Machine(name, there)
        near = _device(f"{name}h")
        try:
            far = _device(name)
            try:
                ip("link", "set", name, "netns", name)
                ip("-n", name, "addr", "add", there, "peer", here, "dev", name)
                ip("-n", name, "link", "set", name, "up")
                ip("addr", "add", here, "peer", there, "dev", f"{name}h")
                ip("link", "set", f"{name}h", "up")
                cable = Cable((near, far), here, machine, seed)
                try:
                    yield cable
                finally:
                    cable.close()
            finally:
                os.close(far)
        finally:
            os.close(near)


def _device(name: str) -> int:
    try:
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise NamespacesUnavailable(f"needs {TUN}: {error.strerror}") from error
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_WITHOUT_HEADER))
    except OSError as error:
        os.close(device)
        raise NamespacesUnavailable(f"cannot make a TUN device: {error.strerror}") from error
    return device
