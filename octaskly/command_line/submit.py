"""`octaskly submit`: commands into the queue, and ids out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import json_option, print_json
from octaskly.command_line.task_options import read_options, task_options
from octaskly.command_line.waiting import Warner
from octaskly.errors import BadFile

MAX_TASKS = 500
MAX_BODY_BYTES = 8 << 20


@click.command(context_settings={"allow_interspersed_args": False})
@task_options
@click.option("--file", "path", metavar="JSONL", help="Many tasks: a JSON object a line, as REST takes it; - is stdin.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def submit(command: tuple[str, ...], *, path: str | None, as_json: bool, inputs: tuple[str, ...], **given: Any) -> None:
    """Submit a command and print its task's id.

    Several words are one command with its arguments; one word is a line for the shell. With --file the options are
    for those lines that do not say otherwise.
    """
    from octaskly.specs import task_spec

    options = read_options(given)
    if bool(command) == bool(path):
        raise click.UsageError("Say what to run: octaskly submit -- COMMAND, or --file TASKS.jsonl.")
    read = list(_lines(path)) if path else []
    with connect() as client:
        if not path:
            options["inputs"] = inputs
            _print([client.submit(shell_line(command), **options)], Warner(), as_json=as_json)
            return
        references = [one.reference for one in client.uploaded(inputs)]
        defaults = task_spec("", options, references)
        warner = Warner()
        for group in _grouped(read):
            _print(client.submit_many([{**defaults, **spec} for spec in group]), warner, as_json=as_json)


def shell_line(words: tuple[str, ...]) -> str:
    """Return what the shell is to run: one word as it is, several with their quotes."""
    return words[0] if len(words) == 1 else shlex.join(words)


def _print(made: list[Any], warner: Warner, *, as_json: bool) -> None:
    if not as_json:
        warner.tell(made)
    for task in made:
        if as_json:
            print_json(task)
        else:
            click.echo(task.id)


def _lines(path: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each line's object, and how long it is."""
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    spec = msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise BadFile(f"{path} line {number} is not a JSON object: {error}") from error
                if "command" not in spec:
                    raise BadFile(f"{path} line {number} has no field command")
                yield spec, len(line)
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}") from error


def _grouped(lines: list[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    length = 0
    for spec, size in lines:
        if group and (len(group) == MAX_TASKS or length + size > MAX_BODY_BYTES):
            yield group
            group, length = [], 0
        group.append(spec)
        length += size
    if group:
        yield group
