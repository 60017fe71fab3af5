"""Arguments and variables become a configuration, or an error that names its flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.join_token import JoinToken
from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.config import DEFAULT_FILES, Address, FileSettings, default_state_dir, parse
from worker_node.limit_flags import LimitSettings

TOKEN = JoinToken.new(b"d" * 32, lambda count: b"r" * count)
OTHER = JoinToken.new(b"e" * 32, lambda count: b"s" * count)


def test_all_flags_are_read():
    """Every flag of the contract ends where it belongs."""
    config = parse(
        [
            "--dispatcher-addr", "[::1]:7777", "--name", "box", "--max-jobs", "3", "--join-token", TOKEN.text,
            "--state-dir", "/s", "--transport", "auto", "--min-sandbox", "basic", "--no-task-network",
            "--drain-timeout", "1.5", "--codec", "json", "--log-json", "--check",
        ],
        {"OCTASKLY_LOG": "warn,worker_node=trace"},
    )  # fmt: skip
    assert config.dispatcher_address == Address("::1", 7777)
    assert str(config.dispatcher_address) == "[::1]:7777"
    assert (config.name, config.slots, config.join_token) == ("box", 3, TOKEN)
    assert (config.state_dir, config.transport) == (Path("/s"), "auto")
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


def test_the_transport_is_set_by_flag_or_variable(monkeypatch, capsys):
    """TCP unless asked; and who asks for QUIC where its package is missing is told so."""
    env = {"OCTASKLY_TRANSPORT": "quic"}
    chosen = [parse([], {}), parse([], env), parse(["--transport", "auto"], env)]
    assert [config.transport for config in chosen] == ["tcp", "quic", "auto"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        parse(["--transport", "quic"], {})
    assert "needs the package aioquic" in capsys.readouterr().err
    assert parse(["--transport", "auto"], {}).transport == "auto"


def test_what_files_may_take_is_set_by_flag_or_variable():
    """In megabytes; zero is a number, too."""
    assert (DEFAULT_FILES.cache_bytes, DEFAULT_FILES.max_output_bytes) == (10_240 << 20, 10_240 << 20)
    assert parse([], {}).files == DEFAULT_FILES
    env = {"OCTASKLY_CACHE_MB": "5", "OCTASKLY_MAX_OUTPUT_MB": "6"}
    assert parse([], env).files == FileSettings(5 << 20, 6 << 20)
    assert parse(["--cache-mb", "0", "--max-output-mb", "0"], env).files == FileSettings(0, 0)


@pytest.mark.parametrize("name", ["OCTASKLY_CACHE_MB", "OCTASKLY_MAX_OUTPUT_MB"])
@pytest.mark.parametrize("text", ["-1", "1.5", "much", "99999999", "9" * 5000])
def test_a_bad_variable_is_named(name, text, capsys):
    """With the value that is wrong in it."""
    with pytest.raises(SystemExit, match="2"):
        parse([], {name: text})
    assert f"environment variable {name}: {text!r} is not a whole number" in capsys.readouterr().err


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
        (
            [],
            {"OCTASKLY_TRANSPORT": "udp"},
            "environment variable OCTASKLY_TRANSPORT: 'udp' is none of tcp, quic, auto",
        ),
        (["--min-sandbox", "weak"], {}, "--min-sandbox"),
        (["--drain-timeout", "-1"], {}, "--drain-timeout"),
        (["--drain-timeout", "nan"], {}, "--drain-timeout"),
        (["--drain-timeout", "inf"], {}, "--drain-timeout"),
        (["--default-limits", ""], {}, "--default-limits"),
        (["--default-limits", "memory_mb"], {}, "--default-limits: 'memory_mb' is not NAME=NUMBER"),
        (["--default-limits", "memory_mb="], {}, "--default-limits"),
        (["--default-limits", "memory_mb=0"], {}, "from 1 to 16777216"),
        (["--default-limits", "memory_mb=16777217"], {}, "from 1 to 16777216"),
        (["--default-limits", "memory_mb=-5"], {}, "--default-limits"),
        (["--default-limits", "memory_mb=1.5"], {}, "--default-limits"),
        (["--default-limits", "memory_mb=1\nx"], {}, "--default-limits"),
        (["--default-limits", "memory_mb=" + "9" * 5000], {}, "--default-limits"),
        (["--default-limits", "memory_mb=\u0663"], {}, "--default-limits"),
        (["--default-limits", "memory_mb=1,"], {}, "--default-limits"),
        (["--default-limits", "gpu=1"], {}, "--default-limits: 'gpu' is none of memory_mb, cpu_seconds"),
        (["--default-limits", "timeout_s=1"], {}, "--default-limits: 'timeout_s' is none of"),
        (["--default-limits", "output_kb=1"], {}, "--default-limits"),
        (["--default-limits", "open_files=7"], {}, "from 8 to 1048576"),
        (["--max-limits", "timeout_s=86401"], {}, "--max-limits"),
        (
            ["--max-limits", "output_kb=65537"],
            {},
            "--max-limits: 'output_kb=65537' is not a whole number from 1 to 65536",
        ),
        (["--max-limits", "disk_mb=5,disk_mb=5"], {}, "--max-limits: disk_mb is given twice"),
        (["--max-limits", "disk_mb=5", "--max-limits", "disk_mb=6"], {}, "--max-limits: disk_mb is given twice"),
        (
            ["--default-limits", "memory_mb=9", "--max-limits", "memory_mb=8"],
            {},
            "--default-limits: memory_mb=9 is above the cap --max-limits memory_mb=8",
        ),
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


def test_limits_of_the_owner_are_put_together():
    """Each flag may come more than once; what is not named is left to the task or to us."""
    config = parse(
        [
            "--default-limits", "memory_mb=512,processes=32", "--default-limits", "open_files=64",
            "--max-limits", "memory_mb=512, disk_mb=100", "--max-limits", "timeout_s=600,output_kb=16,cpu_seconds=9",
        ],
        {},
    )  # fmt: skip
    assert config.limits == LimitSettings(
        defaults=Limits(memory_mb=512, processes=32, open_files=64),
        caps=Limits(memory_mb=512, disk_mb=100, cpu_seconds=9),
        max_timeout_s=600,
        output_bytes=16 << 10,
    )
    assert parse([], {}).limits == LimitSettings(Limits(), Limits(), None, 64 << 20)


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
