"""Typed reading of OCTASKLY_* variables, and the two flags that must be known before Django starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

DEFAULT_DB_PATH = "./data/octaskly.db"

MIN_SECRET_CHARACTERS = 16

EARLY_FLAGS = {"--db-path": "OCTASKLY_DB_PATH", "--secret-key": "OCTASKLY_SECRET_KEY"}
"""Flags that settings depend on, and the variable each one stands above."""


class ConfigurationError(Exception):
    """The operator's configuration is wrong; the message says which part and why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def export_early_flags(argv: list[str]) -> None:
    """Put `--db-path` and `--secret-key` into the environment, so that settings see them."""
    for position, argument in enumerate(argv):
        flag, has_value, value = argument.partition("=")
        variable = EARLY_FLAGS.get(flag)
        if variable is None:
            continue
        if not has_value:
            if position + 1 >= len(argv):
                raise ConfigurationError(f"{flag} needs a value", exit_code=2)
            value = argv[position + 1]
        os.environ[variable] = value


def text(name: str, default: str = "") -> str:
    """Return a variable, or the default when it is unset or empty."""
    return os.environ.get(name) or default


def number(name: str, default: float, *, least: float, most: float) -> float:
    """Return a numeric variable; raise ConfigurationError naming it when it is no number or out of range."""
    raw = os.environ.get(name)
    if not raw:
        return default
    try:
        value = float(raw)
    except ValueError:
        raise ConfigurationError(f"{name}: {raw!r} is not a number", exit_code=2) from None
    if not least <= value <= most:
        raise ConfigurationError(f"{name}: {raw} is not between {least:g} and {most:g}", exit_code=2)
    return value


def choice(name: str, choices: Iterable[str], default: str = "") -> str:
    """Return a variable that is one of a few words; raise ConfigurationError naming it when it is none of them."""
    value = text(name, default)
    if value != default and value not in (words := list(choices)):
        raise ConfigurationError(f"{name}: {value!r} is not one of {', '.join(words)}", exit_code=2)
    return value


def switch(name: str) -> bool:
    """Return a variable that is on or off; raise ConfigurationError naming it when it is neither."""
    value = text(name, "0").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name}: {value!r} is neither 1 nor 0", exit_code=2)


def secret(name: str) -> str:
    """Return a secret, empty when there is none; raise ConfigurationError naming it when it is short or no ASCII."""
    value = text(name)
    if value and (len(value) < MIN_SECRET_CHARACTERS or not (value.isascii() and value.isprintable())):
        # The value itself is never told: what is wrong may still be a secret.
        message = f"{name}: must have at least {MIN_SECRET_CHARACTERS} characters, printable ASCII only"
        raise ConfigurationError(message, exit_code=2)
    return value


def db_path() -> Path:
    """Return where the database lies."""
    return Path(text("OCTASKLY_DB_PATH", DEFAULT_DB_PATH)).expanduser().absolute()
