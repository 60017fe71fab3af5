"""What `rundispatcher` was asked to do: flag over environment over default, checked, in one frozen value."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from octaskly_site import env
from octaskly_site.env import ConfigurationError
from octaskly_site.web.certificate import is_loopback
from octaskly_wire.vocabulary import SandboxLevel

MAX_WORKER_THREADS = 256


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """The dispatcher's options."""

    port: int
    quic_port: int
    """Of UDP; 0 for none."""
    bind: str
    api_port: int
    api_host: str
    serves_https: bool
    db_path: Path
    threads: int
    runs_local_worker: bool
    announces_mdns: bool
    drain_timeout_s: float
    local_min_sandbox: str
    """The floor of the local worker; empty for its own default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags. Defaults stand in `read_options`, below the environment."""
    parser.add_argument("--port", type=_port, help="TCP port for workers (default 5555, OCTASKLY_PORT)")
    quic = parser.add_mutually_exclusive_group()
    quic.add_argument("--quic-port", type=_port, help="UDP port for workers over QUIC (default: the number of --port)")
    quic.add_argument("--no-quic", action="store_true", help="serve no workers over QUIC")
    parser.add_argument("--bind", default="0.0.0.0", help="address for workers (default 0.0.0.0)")  # noqa: S104
    parser.add_argument("--api-port", type=_port, help="web port (default 3000, OCTASKLY_API_PORT)")
    parser.add_argument(
        "--api-host", default="127.0.0.1", help="web address (default 127.0.0.1); any but loopback speaks HTTPS"
    )
    scheme = parser.add_mutually_exclusive_group()
    scheme.add_argument("--https", action="store_true", help="speak HTTPS on loopback, too (OCTASKLY_HTTPS=1)")
    scheme.add_argument(
        "--insecure-http", action="store_true", help="speak plain HTTP off loopback, as behind a proxy with TLS"
    )
    parser.add_argument("--db-path", help="database file (default ./data/octaskly.db, OCTASKLY_DB_PATH)")
    parser.add_argument("--secret-key", help="root secret, at least 16 characters (OCTASKLY_SECRET_KEY)")
    parser.add_argument("--workers", type=int, default=8, help="threads for database and HTTP work (default 8)")
    parser.add_argument("--with-worker", action="store_true", help="also run a worker on this machine")
    parser.add_argument("--no-mdns", action="store_true", help="do not announce the dispatcher on the LAN")
    parser.add_argument(
        "--drain-timeout", type=float, default=30.0, help="seconds a local worker may finish its tasks (default 30)"
    )
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")


def read_options(given: dict[str, object]) -> DispatcherOptions:
    """Merge flags and environment; raises ConfigurationError naming what is wrong."""
    threads = int(str(given["workers"]))
    if not 1 <= threads <= MAX_WORKER_THREADS:
        raise ConfigurationError(f"--workers: {threads} is not between 1 and {MAX_WORKER_THREADS}", exit_code=2)
    drain_timeout_s = float(str(given["drain_timeout"]))
    if not drain_timeout_s >= 0:
        raise ConfigurationError("--drain-timeout: must not be negative", exit_code=2)
    port = _flag_or_env(given["port"], "OCTASKLY_PORT", 5555)
    api_host = str(given["api_host"])
    return DispatcherOptions(
        port=port,
        quic_port=0 if given["no_quic"] else int(str(given["quic_port"] or port)),
        bind=str(given["bind"]),
        api_port=_flag_or_env(given["api_port"], "OCTASKLY_API_PORT", 3000),
        api_host=api_host,
        serves_https=_serves_https(given, api_host),
        db_path=env.db_path(),
        threads=threads,
        runs_local_worker=bool(given["with_worker"]),
        announces_mdns=not given["no_mdns"],
        drain_timeout_s=drain_timeout_s,
        local_min_sandbox=env.choice("OCTASKLY_LOCAL_MIN_SANDBOX", SandboxLevel),
    )


def _serves_https(given: dict[str, object], api_host: str) -> bool:
    if given["insecure_http"]:
        return False
    return bool(given["https"]) or env.switch("OCTASKLY_HTTPS") or not is_loopback(api_host)


def _port(raw: str) -> int:
    try:
        value = int(raw)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{raw!r} is not a port number") from None
    if not 0 < value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{raw} is not between 1 and 65535")
    return value


def _flag_or_env(flag: object, variable: str, default: int) -> int:
    if flag is not None:
        return int(str(flag))
    raw = os.environ.get(variable)
    if not raw:
        return default
    try:
        return _port(raw)
    except argparse.ArgumentTypeError as error:
        raise ConfigurationError(f"{variable}: {error}", exit_code=2) from None
