"""A wire between two programs that counts what goes over it, either way, whatever is encrypted in it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support.programs import free_port

PIECE_BYTES = 1 << 20


class CountingRelay:
    """Listens on a port of its own and passes on to another; a pair of threads for each connection."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.forth_bytes = 0
        """From who dialled to the target."""
        self.back_bytes = 0
        self._target_port = target_port
        self._counting = threading.Lock()
        self._carried: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", self.port))

    def run(self) -> None:
        """Take connections until the door is closed."""
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target_port))
            self._carried += [near, far]
            for source, target, is_forth in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._carry, args=(source, target, is_forth), daemon=True).start()

    def cut(self) -> None:
        """Break all connections that stand; new ones are taken."""
        while self._carried:
            with contextlib.suppress(OSError):
                self._carried.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no new connections; those that stand end with their programs."""
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # Wakes `accept`, which a mere close does not.
        self._door.close()

    def _carry(self, source: socket.socket, target: socket.socket, is_forth: bool) -> None:
        piece = memoryview(bytearray(PIECE_BYTES))
        with contextlib.suppress(OSError):
            while count := source.recv_into(piece):
                target.sendall(piece[:count])
                with self._counting:
                    if is_forth:
                        self.forth_bytes += count
                    else:
                        self.back_bytes += count
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@contextlib.contextmanager
def counting_relay(target_port: int) -> Iterator[CountingRelay]:
    """Relay to a port for the time of the block."""
    relay = CountingRelay(target_port)
    accepting = threading.Thread(target=relay.run, name="relay", daemon=True)
    accepting.start()
    try:
        yield relay
    finally:
        relay.close()
        accepting.join(5)
