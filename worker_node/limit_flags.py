"""What the owner grants each command: the flags `--default-limits` and `--max-limits`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

import msgspec

from octaskly_wire.limits import MAX_OUTPUT_BYTES
from octaskly_wire.messages import NO_LIMITS, Limits

MAX_DIGITS: Final = 12

DEFAULT_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "memory_mb": (1, 1 << 24),
    "cpu_seconds": (1, 86_400 * 366),
    "processes": (1, 1 << 20),
    "open_files": (8, 1 << 20),
    "disk_mb": (1, 1 << 24),
}
"""What `--default-limits` takes: the names and ranges that a task may ask for."""

CAP_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    **DEFAULT_RANGES,
    "timeout_s": (1, 86_400),
    "output_kb": (1, MAX_OUTPUT_BYTES >> 10),
}
"""What `--max-limits` takes."""

LIMITS_METAVAR: Final = "NAME=NUMBER[,NAME=NUMBER...]"


class LimitSettings(msgspec.Struct, frozen=True, cache_hash=True):
    """What the owner grants each command; what is None here is left to us or to the task.

    A default stands in for what a task does not ask for. A task that asks for more than a cap is not run here.
    """

    defaults: Limits = NO_LIMITS
    caps: Limits = NO_LIMITS
    max_timeout_s: int | None = None
    output_bytes: int = MAX_OUTPUT_BYTES
    """Kept of each output stream."""


NO_SETTINGS: Final = LimitSettings()


def limits_within(ranges: Mapping[str, tuple[int, int]]) -> Callable[[str], list[tuple[str, int]]]:
    """Return what reads a flag's value; it raises ArgumentTypeError on what is not in these ranges."""

    def read(text: str) -> list[tuple[str, int]]:
        return [_limit(part, ranges) for part in text.split(",")]

    return read


def _limit(text: str, ranges: Mapping[str, tuple[int, int]]) -> tuple[str, int]:
    name, equals, number = (part.strip() for part in text.partition("="))
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")
    if name not in ranges:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ranges)}")
    least, most = ranges[name]
    if not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS and least <= int(number) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return name, int(number)


def limit_settings(
    fail: Callable[[str], NoReturn],
    defaults_given: Sequence[Sequence[tuple[str, int]]],
    caps_given: Sequence[Sequence[tuple[str, int]]],
) -> LimitSettings:
    """Put together what the flags said, each perhaps more than once; `fail` gets what does not fit together."""
    defaults = _each_once(fail, "--default-limits", defaults_given)
    caps = _each_once(fail, "--max-limits", caps_given)
    for name, number in defaults.items():
        if number > caps.get(name, number):
            fail(f"argument --default-limits: {name}={number} is above the cap --max-limits {name}={caps[name]}")
    max_timeout_s = caps.pop("timeout_s", None)
    output_bytes = caps.pop("output_kb", MAX_OUTPUT_BYTES >> 10) << 10
    return LimitSettings(Limits(**defaults), Limits(**caps), max_timeout_s, output_bytes)


def _each_once(
    fail: Callable[[str], NoReturn], flag: str, given: Sequence[Sequence[tuple[str, int]]]
) -> dict[str, int]:
    limits: dict[str, int] = {}
    for name, number in (limit for limits_of_one in given for limit in limits_of_one):
        if name in limits:
            fail(f"argument {flag}: {name} is given twice")
        limits[name] = number
    return limits
