"""The options that describe a task, shared by `run`, `submit` and `map`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import click

from octaskly.specs import TaskOptions

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90, 90s, 10m, 1.5h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration. One looks like 90, 90s, 10m or 2h", param, ctx)
        return float(match[1]) * _UNITS[match[2] or ""]


def task_options(function: F) -> F:
    """Give a command the options that describe a task."""
    for option in reversed(
        (
            click.option(
                "-i",
                "--input",
                "inputs",
                multiple=True,
                metavar="PATH",
                help="Upload a file or folder. Again for more.",
            ),
            click.option(
                "--stored-input", "stored", multiple=True, metavar="NAME", help="Use a file of `octaskly files`."
            ),
            click.option(
                "-o",
                "--output",
                "outputs",
                multiple=True,
                metavar="GLOB",
                help="Bring these files home. Again for more.",
            ),
            click.option("--name", metavar="TEXT", help="A label, to find the task by."),
            click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable; K alone takes yours."),
            click.option(
                "--timeout", type=Duration(), metavar="TIME", help="End it after so long: 90, 10m, 2h. Else 1h."
            ),
            click.option("--priority", type=click.IntRange(-100, 100), metavar="N", help="Higher runs first. Else 0."),
            click.option(
                "--retries", type=click.IntRange(0, 10), metavar="N", help="When it fails, try so often again. Else 0."
            ),
            click.option(
                "--sandbox", type=click.Choice(["none", "basic", "strict", "very_strict"]), help="How it is shut in."
            ),
            click.option("--network", is_flag=True, help="The command needs the network."),
            click.option("--memory", type=click.IntRange(1), metavar="MB", help="At most so much memory."),
            click.option("--cpu-seconds", type=click.IntRange(1), metavar="S", help="At most so long on processors."),
            click.option("--processes", type=click.IntRange(1), metavar="N", help="At most so many processes."),
            click.option("--open-files", type=click.IntRange(8), metavar="N", help="At most so many open files."),
            click.option("--disk", type=click.IntRange(1), metavar="MB", help="At most so much written to disk."),
        )
    ):
        function = option(function)
    return function


def read_options(given: dict[str, Any]) -> TaskOptions:
    """Take the task's options out of a command's, and return them without files that are uploaded."""
    taken = {name: given.pop(name) for name in _NAMES}
    options: dict[str, Any] = {
        "stored_inputs": list(taken["stored"]),
        "outputs": list(taken["outputs"]),
        "name": taken["name"],
        "env": dict(_variable(text) for text in taken["env"]),
        "timeout": None if taken["timeout"] is None else max(1, round(taken["timeout"])),
        "priority": taken["priority"],
        "max_retries": taken["retries"],
        "sandbox": taken["sandbox"],
        "network": taken["network"] or None,
        "memory_mb": taken["memory"],
        "cpu_seconds": taken["cpu_seconds"],
        "processes": taken["processes"],
        "open_files": taken["open_files"],
        "disk_mb": taken["disk"],
    }
    said = {name: value for name, value in options.items() if value not in (None, [], {})}
    return cast("TaskOptions", said)


_NAMES: Final = (
    "stored", "outputs", "name", "env", "timeout", "priority", "retries", "sandbox", "network", "memory",
    "cpu_seconds", "processes", "open_files", "disk",
)  # fmt: skip


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if separator:
        return name, value
    if name not in os.environ:
        raise click.UsageError(f"--env {name}: there is no such variable here; say {name}=VALUE")
    return name, os.environ[name]
