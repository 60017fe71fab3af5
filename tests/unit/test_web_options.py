"""Which scheme the web server speaks, and what it reads of whom."""

from __future__ import annotations

import argparse

import pytest

from octaskly_site import options
from octaskly_site.env import ConfigurationError
from octaskly_site.web.limits import WebLimits, is_file_upload


def read(*flags: str) -> options.DispatcherOptions:
    """Return the options for a command line."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.read_options(vars(parser.parse_args(flags)))


@pytest.mark.parametrize(
    ("flags", "serves_https"),
    [
        ([], False),
        (["--api-host", "127.0.0.2"], False),
        (["--api-host", "localhost"], False),
        (["--api-host", "::1"], False),
        (["--https"], True),
        (["--api-host", "0.0.0.0"], True),
        (["--api-host", "192.0.2.7"], True),
        (["--api-host", "pc.lan"], True),
        (["--api-host", "0.0.0.0", "--insecure-http"], False),
    ],
)
def test_off_loopback_it_is_https_unless_told_otherwise(flags, serves_https):
    """Passwords and tokens do not cross a network in the clear by default."""
    assert read(*flags).serves_https is serves_https


@pytest.mark.parametrize(
    ("value", "flags", "serves_https"),
    [("1", [], True), ("off", [], False), ("0", ["--https"], True), ("1", ["--insecure-http"], False)],
)
def test_a_variable_asks_for_https_as_the_flag_does(monkeypatch, value, flags, serves_https):
    """The flags stand above it."""
    monkeypatch.setenv("OCTASKLY_HTTPS", value)
    assert read(*flags).serves_https is serves_https


def test_a_variable_that_is_neither_on_nor_off_is_named(monkeypatch):
    """A typing error never means plain HTTP."""
    monkeypatch.setenv("OCTASKLY_HTTPS", "ture")
    with pytest.raises(ConfigurationError, match="OCTASKLY_HTTPS"):
        read()


def test_it_cannot_be_both():
    """Two wishes that contradict each other are bad usage."""
    with pytest.raises(SystemExit):
        read("--https", "--insecure-http")


def test_only_files_and_lists_of_tasks_may_be_large():
    """Every other body is small."""
    limits = WebLimits(max_file_bytes=1000, max_tasks_bytes=100, max_other_bytes=10)
    assert limits.cap_of(b"POST", b"/api/v1/tasks?x=1") == limits.cap_of(b"POST", b"/api/v1/tasks/") == 100
    assert is_file_upload(b"PUT", b"/api/v1/files/data.bin?x=1")
    assert limits.cap_of(b"PUT", b"/api/v1/files/sha256:00") == 1000
    for method, target in ((b"POST", b"/api/v1/files/x"), (b"PUT", b"/api/v1/files"), (b"PUT", b"/x/api/v1/files/x")):
        assert limits.cap_of(method, target) == 10
