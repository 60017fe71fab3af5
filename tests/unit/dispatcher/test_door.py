"""What the door on the workers' port takes for a request."""

from __future__ import annotations

import pytest

from dispatcher.shell.door import METHODS, PEEK_BYTES, BadRequest, parse_head
from octaskly_wire.limits import MAX_FRAME_BYTES


def test_a_request_gives_its_path_and_host():
    """The query is left out; names of headers are read in any case."""
    assert parse_head(b"GET /join.sh?x=1 HTTP/1.1\r\nUser-Agent: x\r\nHOST:  pc:5555 ") == ("/join.sh", "pc:5555")


@pytest.mark.parametrize(
    "head",
    [
        b"", b"GET", b"GET /", b"GET / FTP/1.1\r\nHost: x", b"GET  / HTTP/1.1\r\nHost: x", b"GET http://x/ HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b", b"GET / HTTP/2\r\nHost: x", b"\xff\xff",
    ],
)  # fmt: skip
def test_anything_else_is_a_bad_request(head):
    """It is refused in words, not by a traceback."""
    with pytest.raises(BadRequest):
        parse_head(head)


def test_no_frame_begins_like_a_request():
    """As the length of a frame the first bytes of a visitor are far above every cap."""
    assert {len(method) for method in METHODS} == {PEEK_BYTES}
    assert all(int.from_bytes(method, order) > MAX_FRAME_BYTES for method in METHODS for order in ("big", "little"))
