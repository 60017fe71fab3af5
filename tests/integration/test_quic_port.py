"""The UDP port of the dispatcher: beside TCP's unless told otherwise, none at all with --no-quic, and clear when it is taken."""

from __future__ import annotations

import argparse
import socket

import pytest

from octaskly_site import composition, options
from octaskly_site.env import ConfigurationError


def given(*flags):
    """Return the options of a command line."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.read_options(vars(parser.parse_args(flags)))


@pytest.mark.parametrize(
    ("flags", "quic_port"),
    [(["--port", "7000"], 7000), (["--port", "7000", "--quic-port", "7001"], 7001), (["--no-quic"], 0)],
)
def test_the_port_of_quic(flags, quic_port):
    """It has TCP's number unless it is named; 0 is none, also in what is announced."""
    assert given(*flags).quic_port == quic_port


def test_one_cannot_both_name_a_port_and_have_none(capsys):
    """The two flags exclude each other."""
    with pytest.raises(SystemExit):
        given("--no-quic", "--quic-port", "7001")
    assert "not allowed with" in capsys.readouterr().err


def test_a_taken_port_names_its_flag():
    """A UDP port that is taken is an error before anything starts, which names the flag and the way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        wanted = given("--bind", "127.0.0.1", "--quic-port", str(port))
        with pytest.raises(ConfigurationError, match=rf"--quic-port: port {port} on 127.0.0.1 .*; --no-quic goes"):
            composition._check_quic(wanted)
    composition._check_quic(wanted)
