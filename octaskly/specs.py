"""A task as a program asks for it, and as REST takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

LIMITS: Final = ("memory_mb", "cpu_seconds", "processes", "open_files", "disk_mb")


class TaskOptions(TypedDict, total=False):
    """What may be asked for beside the command. What is left out is the server's default."""

    inputs: Sequence[str | os.PathLike[str]]
    """Local files and folders that are uploaded."""
    stored_inputs: Sequence[str]
    """Files on the server, by name."""
    outputs: Sequence[str]
    """Names and globs of files to keep."""
    name: str
    env: Mapping[str, str]
    timeout: int
    priority: int
    max_retries: int
    sandbox: str
    network: bool
    memory_mb: int
    cpu_seconds: int
    processes: int
    open_files: int
    disk_mb: int


def task_spec(command: str, options: TaskOptions, references: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON object for a task; `references` are its inputs on the server."""
    unknown = set(options) - set(TaskOptions.__annotations__)
    if unknown:
        raise TypeError(f"there is no option {min(unknown)!r} of a task")
    spec: dict[str, Any] = {"command": command}
    limits = {}
    for option, value in options.items():
        if value is None or option in {"inputs", "stored_inputs"}:
            continue
        if option in LIMITS:
            limits[option] = value
        elif option == "env":
            spec["env"] = dict(options["env"])
        elif option == "outputs":
            spec["outputs"] = list(options["outputs"])
        else:
            spec[option] = value
    if limits:
        spec["limits"] = limits
    if inputs := [*references, *options.get("stored_inputs", ())]:
        spec["inputs"] = inputs
    return spec
