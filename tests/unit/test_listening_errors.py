"""Why an address cannot be listened on, with the flag to change."""

from __future__ import annotations

import errno
import socket

import pytest

from octaskly_site.web_server import listening_error


@pytest.mark.parametrize(
    ("error", "flag"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), "--port"),
        (PermissionError(errno.EACCES, "Permission denied"), "--port"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "--bind"),
        (socket.gaierror(-2, "Name or service not known"), "--bind"),
    ],
)
def test_the_flag_at_fault_is_named(error, flag):
    """A taken or forbidden port is the port's fault, everything else the address's."""
    text = listening_error(error, "--port", "--bind", "10.0.0.1", 80)
    assert text.startswith(f"{flag}: ")
    assert "10.0.0.1" in text
