"""Arguments and variables become a configuration, or an error that names its flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.join_token import JoinToken
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.config import Address, default_state_dir, parse

TOKEN = JoinToken.new(b"d" * 32, lambda count: b"r" * count)
OTHER = JoinToken.new(b"e" * 32, lambda count: b"s" * count)


def test_all_flags_are_read():
    """Every flag of the contract ends where it belongs."""
    config = parse(
        [
            "--dispatcher-addr", "[::1]:7777", "--name", "box", "--max-jobs", "3", "--join-token", TOKEN.text,
            "--state-dir", "/s", "--transport", "tcp", "--min-sandbox", "basic", "--no-task-network",
            "--drain-timeout", "1.5", "--codec", "json", "--log-json", "--check",
        ],
        {"OCTASKLY_LOG": "warn,worker_node=trace"},
    )  # fmt: skip
    assert config.dispatcher_address == Address("::1", 7777)
    assert str(config.dispatcher_address) == "[::1]:7777"
    assert (config.name, config.slots, config.join_token) == ("box", 3, TOKEN)
    assert (config.state_dir, config.transport) == (Path("/s"), "tcp")
    assert (config.min_sandbox, config.allows_network) == (SandboxLevel.BASIC, False)
    assert (config.drain_timeout_s, config.codec) == (1.5, Codec.JSON)
    assert (config.logs_json, config.is_check) == (True, True)
    assert (config.log_level, config.log_levels) == (30, {"worker_node": 5})


def test_defaults_are_safe():
    """Without flags the floor is strict and the network is granted to those who ask."""
    config = parse([], {"XDG_STATE_HOME": "/x"})
    assert config.min_sandbox is SandboxLevel.STRICT
    assert config.allows_network
    assert config.dispatcher_address is None
    assert config.join_token is None
    assert config.slots >= 1
    assert config.name
    assert (config.codec, config.drain_timeout_s) == (Codec.MSGPACK, 60.0)
    assert config.state_dir == Path("/x/octaskly-worker")


def test_a_flag_wins_over_its_variable():
    """The token comes from the environment only when no flag gives one."""
    env = {"OCTASKLY_JOIN_TOKEN": TOKEN.text}
    assert parse([], env).join_token == TOKEN
    assert parse(["--join-token", OTHER.text], env).join_token == OTHER


def test_the_port_may_be_left_out():
    """The default port is the contract's."""
    assert parse(["--dispatcher-addr", "host"], {}).dispatcher_address == Address("host", 5555)
    assert parse(["--dispatcher-addr", "[::1]"], {}).dispatcher_address == Address("::1", 5555)


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        (["--dispatcher-addr", ""], {}, "--dispatcher-addr"),
        (["--dispatcher-addr", "host:0"], {}, "--dispatcher-addr"),
        (["--dispatcher-addr", "host:65536"], {}, "--dispatcher-addr"),
        (["--dispatcher-addr", "host:http"], {}, "--dispatcher-addr"),
        (["--dispatcher-addr", "::1:5555"], {}, "--dispatcher-addr"),
        (["--dispatcher-addr", "ho st:1"], {}, "--dispatcher-addr"),
        (["--name", " "], {}, "--name"),
        (["--name", "x" * 256], {}, "--name"),
        (["--name", "a\x1b[2J"], {}, "--name"),
        (["--max-jobs", "0"], {}, "--max-jobs"),
        (["--max-jobs", "-1"], {}, "--max-jobs"),
        (["--max-jobs", "4097"], {}, "--max-jobs"),
        (["--max-jobs", "two"], {}, "--max-jobs"),
        (["--join-token", "octa1-nonsense"], {}, "--join-token"),
        (["--state-dir", ""], {}, "--state-dir"),
        (["--transport", "udp"], {}, "--transport"),
        (["--transport", "quic"], {}, "QUIC is not available in this version"),
        (["--min-sandbox", "weak"], {}, "--min-sandbox"),
        (["--drain-timeout", "-1"], {}, "--drain-timeout"),
        (["--drain-timeout", "nan"], {}, "--drain-timeout"),
        (["--drain-timeout", "inf"], {}, "--drain-timeout"),
        (["--codec", "xml"], {}, "--codec"),
        (["--unheard-of"], {}, "--unheard-of"),
        ([], {"OCTASKLY_JOIN_TOKEN": "x"}, "OCTASKLY_JOIN_TOKEN"),
        ([], {"OCTASKLY_LOG": "loud"}, "OCTASKLY_LOG"),
        ([], {"RUST_LOG": "loud"}, "RUST_LOG"),
    ],
)
def test_bad_values_end_with_two_and_one_line_that_names_them(arguments, env, named, capsys):
    """Exit code 2; the line says which flag or variable."""
    with pytest.raises(SystemExit) as caught:
        parse(arguments, env)
    text = capsys.readouterr().err
    assert caught.value.code == 2
    assert named in text
    assert text.count("\n") == 1


def test_a_mistyped_token_is_not_repeated(capsys):
    """An error text ends in logs and screenshots; the secret does not."""
    with pytest.raises(SystemExit):
        parse(["--join-token", TOKEN.text[:-1] + "!"], {})
    assert TOKEN.secret not in capsys.readouterr().err
    assert TOKEN.secret not in repr(parse(["--join-token", TOKEN.text], {}))


def test_the_default_state_folder_follows_the_system():
    """XDG on Linux and macOS, the local profile on Windows; a relative XDG path is ignored."""
    assert default_state_dir({"XDG_STATE_HOME": "/x"}, "linux") == Path("/x/octaskly-worker")
    home = Path.home() / ".local" / "state" / "octaskly-worker"
    assert default_state_dir({}, "linux") == home
    assert default_state_dir({"XDG_STATE_HOME": "x"}, "darwin") == home
    assert default_state_dir({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/octaskly-worker")
