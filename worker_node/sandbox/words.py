"""What the processes around a sandbox say to the supervisor, over local sockets. Standard library only.

A message is a word and what belongs to it, without more form: most of those who speak are short-lived forks, in which
every line of Python that runs for the first time costs as much as a system call.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from worker_node.sandbox import command

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

PATIENCE_S: Final = 20.0
"""How long a step of a sandbox may take on a machine that is short of breath."""

GONE: Final = "gone"

_MAX_BYTES: Final = 8192
_CREDENTIALS: Final = struct.Struct("iII")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_CREDENTIALS.size)


class SandboxFailed(Exception):
    """A step of making the sandbox failed; the command did not run."""


class Message:
    """Something that was said."""

    def __init__(self, text: str) -> None:
        """`text` is the word that says what happened, and what belongs to it."""
        self.event, _, self.rest = text.partition(" ")
        self.pid = 0
        """Who said it, as the kernel tells and as it is called here."""
        self.fd: int | None = None
        """A descriptor that came along."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end, at which the kernel says who speaks, and the other one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


def tell(channel: int, text: bytes, fd: int | None = None) -> None:
    """Say it to the supervisor, or end: without one nobody is there to hear or to want anything."""
    try:
        if fd is None:
            os.write(channel, text)
        else:
            with socket.socket(fileno=os.dup(channel)) as speaker:
                socket.send_fds(speaker, [text], [fd], socket.MSG_NOSIGNAL)
    except OSError:
        os._exit(command.SETUP_FAILED)


def tell_failure(channel: int, detail: str) -> None:
    """Say why there will be no command."""
    tell(channel, b"failed " + detail.encode("utf-8", "replace")[: _MAX_BYTES - 10])


def hear(channel: socket.socket) -> Message:
    """Return the next message, `gone` when no more can come or none is there."""
    for _ in range(2):
        try:
            flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            text, extras, _, _ = channel.recvmsg(_MAX_BYTES, _ANCILLARY_BYTES, flags)
        except ConnectionResetError:
            continue  # said once, before what an end had said that closed with a word of ours unread
        except OSError:
            break
        message = Message(text.decode("utf-8", "replace") or GONE)
        for _, kind, data in extras:
            if kind == socket.SCM_CREDENTIALS:
                message.pid = _CREDENTIALS.unpack(data)[0]
            elif kind == socket.SCM_RIGHTS:
                message.fd = int.from_bytes(data[:4], "little")
        return message
    return Message(GONE)


def expect(channel: socket.socket, event: str) -> Message:
    """Wait for this message and return it; raise SandboxFailed when it is another one, or none comes."""
    readable = select.poll()
    readable.register(channel, select.POLLIN)
    if not readable.poll(PATIENCE_S * 1000):
        raise SandboxFailed(f"sandbox: not {event} within {PATIENCE_S:.0f} s")
    message = hear(channel)
    if message.event != event:
        raise SandboxFailed(message.rest or f"sandbox: died before it was {event}")
    return message
