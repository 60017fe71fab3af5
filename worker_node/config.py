"""WorkerConfig from arguments and OCTASKLY_* variables. A flag wins over its variable."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, NoReturn, cast, get_args

from octaskly_wire import __version__
from octaskly_wire.codec import Codec
from octaskly_wire.errors import BadJoinToken
from octaskly_wire.join_token import JoinToken
from octaskly_wire.limits import DEFAULT_PORT
from octaskly_wire.vocabulary import SandboxLevel
from worker_node import logs
from worker_node.limit_flags import (
    CAP_RANGES,
    DEFAULT_RANGES,
    LIMITS_METAVAR,
    MAX_DIGITS,
    NO_SETTINGS,
    LimitSettings,
    limit_settings,
    limits_within,
)

MAX_SLOTS: Final = 4096
HELP_COLUMNS: Final = 100
MAX_NAME_CHARACTERS: Final = 255
DEFAULT_DRAIN_TIMEOUT_S: Final = 60.0
DEFAULT_DISK_RESERVE_MB: Final = 200
DEFAULT_CACHE_MB: Final = 10_240
DEFAULT_MAX_OUTPUT_MB: Final = 10_240
MAX_MEGABYTES: Final = 1 << 24

TransportChoice = Literal["tcp", "quic", "auto"]
"""What carries links; auto is QUIC, and TCP where that fails."""

NO_QUIC: Final = 0


@dataclass(frozen=True)
class Address:
    """Where a dispatcher may be."""

    host: str
    port: int
    quic_port: int | None = None
    """None is the same number; `NO_QUIC`, none."""

    def __str__(self) -> str:
        """Return it as it is written on a command line."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class FileSettings:
    """What the owner grants to tasks' files."""

    cache_bytes: int = DEFAULT_CACHE_MB << 20
    """Inputs that are kept for later tasks."""
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_MB << 20
    """Of all outputs of one attempt together."""


DEFAULT_FILES: Final = FileSettings()


@dataclass(frozen=True)
class WorkerConfig:
    """How this worker was asked to be."""

    name: str
    slots: int
    state_dir: Path
    dispatcher_address: Address | None = None
    join_token: JoinToken | None = field(default=None, repr=False)
    transport: TransportChoice = "tcp"
    min_sandbox: SandboxLevel = SandboxLevel.STRICT
    allows_network: bool = True
    drain_timeout_s: float = DEFAULT_DRAIN_TIMEOUT_S
    disk_reserve_mb: int = DEFAULT_DISK_RESERVE_MB
    limits: LimitSettings = NO_SETTINGS
    files: FileSettings = DEFAULT_FILES
    codec: Codec = Codec.MSGPACK
    is_check: bool = False
    is_witness: bool = False
    logs_json: bool = False
    log_level: int = logs.LEVELS["info"]
    log_levels: Mapping[str, int] = field(default_factory=dict)


def parse(arguments: Sequence[str], env: Mapping[str, str]) -> WorkerConfig:
    """Return the configuration; a bad value ends the program with code 2 and names its flag."""
    parser = _parser(env)
    options = parser.parse_args(arguments)
    token = options.join_token
    if token is None and (text := env.get("OCTASKLY_JOIN_TOKEN")):
        try:
            token = JoinToken.parse(text)
        except BadJoinToken as error:
            parser.error(f"environment variable OCTASKLY_JOIN_TOKEN: {error}")
    try:
        general, modules = logs.levels_from(env)
    except logs.BadLogLevels as error:
        parser.error(f"environment variable {'OCTASKLY_LOG' if env.get('OCTASKLY_LOG') else 'RUST_LOG'}: {error}")
    limits = limit_settings(parser.error, options.default_limits, options.max_limits)
    return WorkerConfig(
        name=options.name,
        slots=options.max_jobs,
        state_dir=options.state_dir,
        dispatcher_address=options.dispatcher_addr,
        join_token=token,
        transport=_transport_of(parser, options.transport, env),
        min_sandbox=options.min_sandbox,
        allows_network=not options.no_task_network,
        drain_timeout_s=options.drain_timeout,
        disk_reserve_mb=options.disk_reserve_mb,
        limits=limits,
        files=FileSettings(
            cache_bytes=_megabytes_of(parser, options.cache_mb, env, "OCTASKLY_CACHE_MB", DEFAULT_CACHE_MB) << 20,
            max_output_bytes=_megabytes_of(
                parser, options.max_output_mb, env, "OCTASKLY_MAX_OUTPUT_MB", DEFAULT_MAX_OUTPUT_MB
            )
            << 20,
        ),
        codec=options.codec,
        is_check=options.check,
        is_witness=options.witness,
        logs_json=options.log_json,
        log_level=general,
        log_levels=modules,
    )


def default_state_dir(env: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return where a worker keeps its identity unless told otherwise."""
    if platform == "win32":
        base = env.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "octaskly-worker"
    base = env.get("XDG_STATE_HOME")
    # The XDG rule: a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "octaskly-worker"


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line; the whole usage is one `--help` away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m worker_node",
        description="Runs a dispatcher's tasks on this machine.",
        epilog="Environment: OCTASKLY_JOIN_TOKEN, OCTASKLY_CACHE_MB, OCTASKLY_MAX_OUTPUT_MB, OCTASKLY_TRANSPORT,"
        " OCTASKLY_LOG (or RUST_LOG). A flag wins over its variable.",
        allow_abbrev=False,
        # Told the width, it does not load shutil, half a megabyte with its compressors, to ask the terminal.
        formatter_class=partial(argparse.HelpFormatter, width=HELP_COLUMNS),
    )
    add = parser.add_argument
    add("--dispatcher-addr", type=_address, metavar="HOST:PORT", help="without it the dispatcher is found by mDNS")
    add("--name", type=_name, default=_host_name(), help="how the worker is shown (default: the host's name)")
    add(
        "--max-jobs",
        type=_slots,
        default=min(os.cpu_count() or 1, MAX_SLOTS),
        metavar="N",
        help="commands at once (default: number of processors)",
    )
    add("--join-token", type=_token, metavar="TOKEN", help="needed once, to enrol; better in OCTASKLY_JOIN_TOKEN")
    add("--state-dir", type=_folder, default=default_state_dir(env), metavar="DIR", help="identity and workspaces")
    add(
        "--transport",
        choices=get_args(TransportChoice),
        help="what carries the link: tcp (default), quic, or auto, which is quic and tcp where that fails",
    )
    add(
        "--min-sandbox",
        type=_level,
        default=SandboxLevel.STRICT,
        metavar="LEVEL",
        help="the weakest level this worker runs: none, basic, strict (default), very_strict",
    )
    add("--no-task-network", action="store_true", help="run no task that asks for the network")
    add(
        "--drain-timeout",
        type=_seconds,
        default=DEFAULT_DRAIN_TIMEOUT_S,
        metavar="SECONDS",
        help="how long running commands may take to finish after a first signal (default: 60)",
    )
    add(
        "--disk-reserve-mb",
        type=_megabytes,
        default=DEFAULT_DISK_RESERVE_MB,
        metavar="N",
        help="take no new tasks while the state folder's disk has less free; 0 turns that off (default: 200)",
    )
    add(
        "--cache-mb",
        type=_megabytes,
        metavar="N",
        help="inputs kept for later tasks, least recently used go first; 0 keeps none longer than a task needs it"
        f" (default: {DEFAULT_CACHE_MB})",
    )
    add(
        "--max-output-mb",
        type=_megabytes,
        metavar="N",
        help=f"the most that the output files of one attempt may have together (default: {DEFAULT_MAX_OUTPUT_MB})",
    )
    add(
        "--default-limits",
        type=limits_within(DEFAULT_RANGES),
        action="append",
        default=[],
        metavar=LIMITS_METAVAR,
        help=f"limits of tasks that ask for none: {', '.join(DEFAULT_RANGES)}",
    )
    add(
        "--max-limits",
        type=limits_within(CAP_RANGES),
        action="append",
        default=[],
        metavar=LIMITS_METAVAR,
        help="run no task that asks for more than this: the same names and timeout_s;"
        " output_kb is what is kept of each output stream",
    )
    add("--codec", type=_codec, default=Codec.MSGPACK, metavar="msgpack|json")
    add("--log-json", action="store_true", help="one JSON object a log line")
    add(
        "--witness",
        action="store_true",
        help="print the checkpoints of the cluster's audit trail that this worker keeps; then end",
    )
    add("--check", action="store_true", help="print which sandbox levels this host proves, and how; then end")
    add("--version", action="version", version=f"octaskly worker {__version__}")
    return parser


def _host_name() -> str:
    # Not from socket: pure modules stand on this one.
    return platform.node()[:MAX_NAME_CHARACTERS] or "worker"


def _address(text: str) -> Address:
    host, separator, port_text = text.strip().rpartition(":")
    if not separator or text.strip().endswith("]"):
        host, port_text = text.strip(), str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
    if not host or any(char.isspace() for char in host):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r}: the port must be 1 to 65535")
    return Address(host, int(port_text))


def _name(text: str) -> str:
    if not text.strip() or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    return text.strip()


def _slots(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_SLOTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_SLOTS}")
    return int(text)


def _token(text: str) -> JoinToken:
    try:
        return JoinToken.parse(text)
    except BadJoinToken as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("must be a path")
    return Path(text).expanduser().absolute()


def _level(text: str) -> SandboxLevel:
    try:
        return SandboxLevel(text)
    except ValueError:
        known = ", ".join(SandboxLevel)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}") from None


def _codec(text: str) -> Codec:
    try:
        return Codec[text.upper()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither msgpack nor json") from None


def _transport_of(
    parser: argparse.ArgumentParser, given: TransportChoice | None, env: Mapping[str, str]
) -> TransportChoice:
    """Return what the flag says, else the variable, else tcp."""
    name, choices = "OCTASKLY_TRANSPORT", get_args(TransportChoice)
    if given is None and (text := env.get(name)):
        if text not in choices:
            parser.error(f"environment variable {name}: {text!r} is none of {', '.join(choices)}")
        given = cast("TransportChoice", text)
    if given == "quic" and importlib.util.find_spec("aioquic") is None:
        parser.error(
            "argument --transport: quic needs the package aioquic, which this Python has not; tcp needs nothing"
        )
    return given or "tcp"


def _megabytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text) <= MAX_MEGABYTES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MAX_MEGABYTES}")
    return int(text)


def _megabytes_of(
    parser: argparse.ArgumentParser, given: int | None, env: Mapping[str, str], name: str, default: int
) -> int:
    """Return what the flag says, else the variable, else the default."""
    if given is not None or not (text := env.get(name)):
        return default if given is None else given
    try:
        return _megabytes(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"environment variable {name}: {error}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:  # noqa: PLR2004 - a day; also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds
