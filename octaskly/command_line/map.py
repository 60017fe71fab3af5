"""`octaskly map`: its options, and where its values come from."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from octaskly import templates
from octaskly.command_line.show import json_option, print_json
from octaskly.command_line.task_options import read_options, task_options
from octaskly.command_line.value_feed import Values, is_whole, lines


@click.command(context_settings={"allow_interspersed_args": False})
@task_options
@click.option("-a", "--arg-file", "files", multiple=True, metavar="FILE", help="Values, one a line; - is stdin.")
@click.option("-0", "--null", is_flag=True, help="Values end with NUL, not with a line.")
@click.option("-k", "--keep-order", is_flag=True, help="Print output in the order of the values.")
@click.option("-j", "--at-once", type=click.IntRange(1), metavar="N", help="At most so many in the queue.")
@click.option("--halt-on-error", is_flag=True, help="When one fails, cancel all that have not ended.")
@click.option("--joblog", "log", type=click.Path(dir_okay=False, path_type=Path), help="A line for each ended task.")
@click.option("--resume", is_flag=True, help="Leave out what stands in the joblog.")
@click.option("--resume-failed", is_flag=True, help="The same, but what failed is done again.")
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Keep each output in files there.")
@click.option(
    "--output-dir", type=click.Path(file_okay=False, path_type=Path), default=".", help="Where outputs go. Else here."
)
@click.option("--dry-run", is_flag=True, help="Print the commands and run nothing.")
@click.option("--raw", is_flag=True, help="Let escape sequences of the output reach this terminal.")
@json_option
@click.argument("template", metavar="COMMAND... [::: VALUE...]", nargs=-1, type=click.UNPROCESSED)
def map(  # noqa: A001 - the command's name
    template: tuple[str, ...],
    *,
    files: tuple[str, ...],
    null: bool,
    dry_run: bool,
    inputs: tuple[str, ...],
    log: Path | None,
    resume: bool,
    resume_failed: bool,
    **given: Any,
) -> int:
    """Run a command for each of many values, like GNU Parallel.

    \b
    octaskly map -i {} -o {.}.webp 'convert {} {.}.webp' ::: *.png
    find . -name '*.wav' | octaskly map -i {} -o {.}.mp3 lame {} {.}.mp3

    In the command, in -i, -o and --name: {} is the value, {.} without its extension, {/} its last part, {//} its
    folder, {/.} its last part without extension, {#} its number. Several ::: lists make all combinations, {1} and {2}
    are their values. Values come from :::, from -a, or from stdin; without a command they are commands. The exit code
    is the number of failed tasks, at most 101.
    """  # noqa: D301 - \b keeps lines as they are
    words, lists = templates.split_lists(template)
    if (resume or resume_failed) and log is None:
        raise click.UsageError("--resume needs the --joblog that tells what is done.")
    command = templates.with_field(" ".join(words)) if words else ""
    values = _values(lists, files, ends=b"\0" if null else b"\n")
    _check_places(command, values.places)
    if dry_run:
        number = 0
        while value := next(values.listed, None):
            number += 1
            line = templates.filled(command, value, number) if command else " ".join(value)
            if given["as_json"]:
                print_json({"seq": number, "values": value, "command": line})
            else:
                click.echo(line)
        return 0
    from octaskly.command_line.mapping import Mapping, Plan

    plan = Plan(
        template=command,
        inputs=inputs,
        options=read_options(given),
        log=log,
        resumes=resume or resume_failed,
        repeats_failed=resume_failed,
        **given,
    )
    return asyncio.run(Mapping(plan, values).to_its_end())


def _values(lists: Sequence[Sequence[str]], files: Sequence[str], ends: bytes) -> Values:
    sources: list[Iterable[str]] = [*lists, *(lines(name, ends) for name in files)]
    if not sources:
        if sys.stdin.isatty():
            raise click.UsageError("Say for which values: ::: VALUE..., -a FILE, or through stdin.")
        sources = [lines("-", ends)]
    if len(sources) == 1 and not isinstance(sources[0], list) and not is_whole(files[0] if files else "-"):
        return Values(((value,) for value in sources[0]), places=1, total=None)
    read = [list(source) for source in sources]
    return Values(templates.combinations(read), places=len(read), total=math.prod(len(values) for values in read))


def _check_places(command: str, places: int) -> None:
    highest = templates.highest_place(command)
    if highest > places:
        raise click.UsageError(
            f"{{{highest}}} names list {highest}, and there {'is' if places == 1 else 'are'} {places}."
        )
