"""HOST:PORT: what passes can be written into a script."""

from __future__ import annotations

import pytest

from octaskly_wire.address import HostPort, NoAddress, parse_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7:8443", HostPort("192.0.2.7", 8443)),
        ("192.0.2.7", HostPort("192.0.2.7", 5555)),
        ("build-01.lan", HostPort("build-01.lan", 5555)),
        ("my_pc.local:1", HostPort("my_pc.local", 1)),
        ("[2001:db8::1]:5556", HostPort("2001:db8::1", 5556)),
        ("[::1]", HostPort("::1", 5555)),
    ],
)
def test_addresses_are_read_and_written_the_same_way(text, expected):
    """A name, an IPv4 address, an IPv6 address in brackets, each with a port or without."""
    address = parse_host_port(text, 5555)
    assert address == expected
    assert parse_host_port(str(address), 1) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":5555", "host:", "host:0", "host:65536", "host:123456", "host:5555:1", "host:٣", "a b", "a'b", 'a"b', "a;b",
        "a$(x)", "a`x`", "a\nb", "host\n", "-x", "a..b", "é.lan", "x" * 254, "2001:db8::1", "[::1", "[::1]x", "[::1]:",
        "[not:an:address]", "[fe80::1%'; reboot; ']:1", "[]",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    """Nothing that a shell would read as more than a word comes through."""
    with pytest.raises(NoAddress):
        parse_host_port(text, 5555)
