"""Hear what the other end of a local socket said, also when it is gone. Standard library only."""

from __future__ import annotations

import array
import socket

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final


_NOW: Final = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_FD_BYTES: Final = array.array("i").itemsize


def receive(channel: socket.socket, max_bytes: int, max_fds: int = 1) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors with it; no bytes when nothing more can come.

    Does not wait: raises BlockingIOError when nothing has come yet. An end that is closed while a word of ours lies
    unread there is told as an error, once, and before what it had said: that still comes.
    """
    for _ in range(2):
        try:
            return receive_now(channel, max_bytes, max_fds)
        except BlockingIOError:
            raise
        except ConnectionResetError:
            continue
        except OSError:
            break
    return b"", []


def receive_next(channel: socket.socket, max_bytes: int, max_fds: int) -> tuple[bytes, list[int]]:
    """Wait for the next message; return it and the descriptors with it like `receive_now`; raise OSError."""
    return receive_now(channel, max_bytes, max_fds, socket.MSG_CMSG_CLOEXEC)


def receive_now(channel: socket.socket, max_bytes: int, max_fds: int, flags: int = _NOW) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors with it, which no command inherits; raise OSError.

    Not socket.recv_fds, which takes flags and forgets them.
    """
    text, extras, _, _ = channel.recvmsg(max_bytes, socket.CMSG_LEN(max_fds * _FD_BYTES), flags)
    if not extras:
        return text, []
    fds = array.array("i")
    for level, kind, data in extras:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _FD_BYTES])
    return text, list(fds)
