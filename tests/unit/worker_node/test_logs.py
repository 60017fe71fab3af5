"""Log levels are parsed, and no text can act on the reader's terminal."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.support.hostile_texts import TEXTS
from worker_node import logs


def record(text: str, *arguments: object) -> logging.LogRecord:
    """Return a warning with this text."""
    return logging.LogRecord("worker_node.node", logging.WARNING, "f", 1, text, arguments, None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", (20, {})),
        ("trace", (5, {})),
        ("WARN", (30, {})),
        ("info,worker_node=debug", (20, {"worker_node": 10})),
        ("worker_node=error , debug", (10, {"worker_node": 40})),
        ("worker_node::core=trace", (20, {"worker_node.core": 5})),
    ],
)
def test_levels_are_parsed(spec, expected):
    """A general level and overrides, in any order."""
    assert logs.parse_levels(spec) == expected


@pytest.mark.parametrize("spec", ["loud", "=info", "worker_node=", "a=b=c"])
def test_nonsense_is_refused(spec):
    """A typing error shall not silence a log."""
    with pytest.raises(logs.BadLogLevels):
        logs.parse_levels(spec)


def test_our_variable_comes_before_the_other():
    """RUST_LOG is read only when OCTASKLY_LOG is unset."""
    assert logs.levels_from({"RUST_LOG": "error"})[0] == 40
    assert logs.levels_from({"RUST_LOG": "error", "OCTASKLY_LOG": "debug"})[0] == 10


@pytest.mark.parametrize("hostile", TEXTS, ids=ascii)
def test_control_characters_are_escaped(hostile):
    """One event is one line in both formats, without terminal codes or changes of writing direction."""
    line = logs.TerminalFormatter().format(record("seen %s", hostile))
    assert line.isprintable()
    text = logs.JsonFormatter().format(record("seen %s", hostile))
    assert text.isprintable()
    assert json.loads(text)["message"] == f"seen {hostile}"


@pytest.mark.parametrize("hostile", TEXTS, ids=ascii)
def test_an_error_that_repeats_a_text_cannot_forge_an_event(hostile):
    """A traceback follows on lines of its own, each set in; in JSON all is one line."""
    told = record("failed")
    told.exc_info = (ValueError, ValueError(hostile), None)
    first, *more = logs.TerminalFormatter().format(told).split("\n")
    assert first.endswith("failed")
    assert all(line.startswith("    ") and line.isprintable() for line in more)
    assert logs.JsonFormatter().format(told).isprintable()


def test_json_has_what_a_machine_needs():
    """Time in UTC, level by our names, module, message."""
    event = json.loads(logs.JsonFormatter().format(record("hello %d", 5)))
    assert (event["level"], event["module"], event["message"]) == ("warn", "worker_node.node", "hello 5")
    assert event["time"].endswith("Z")


def test_what_is_given_as_extra_stands_beside_the_message():
    """An event's name and ids become keys; nothing takes the place of the four that every line has."""
    told = record("hello")
    told.__dict__ |= {"time": "never", "level": 9, "folder": Path("/x"), "seen": {1}}
    told.__dict__ |= logs.of_attempt("attempt_ended", "t-1.2", detail="\u202eevil\n")
    line = logs.JsonFormatter().format(told)
    event = json.loads(line)
    assert line.isprintable()
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warn", "module": "worker_node.node", "message": "hello", "folder": "/x", "seen": ["1"],
        "event": "attempt_ended", "attempt_id": "t-1.2", "task_id": "t-1", "attempt": 2, "detail": "\u202eevil\n",
    }  # fmt: skip


def test_a_network_that_is_gone_is_one_line(monkeypatch, capsys):
    """The library for mDNS would tell of it with a traceback; a failure of ours keeps its own."""
    root, talker = logging.getLogger(), logging.getLogger("zeroconf")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(talker, "filters", [])
    before = root.level
    try:
        logs.set_up(*logs.parse_levels("info"), as_json=False)
        for logger in (talker, logging.getLogger("worker_node.node")):
            logger.warning("Network is unreachable", exc_info=OSError("Network is unreachable"))
    finally:
        root.setLevel(before)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("zeroconf: Network is unreachable")
    assert lines[1].endswith("worker_node.node: Network is unreachable")
    assert lines[2:] == ["    OSError: Network is unreachable"]
