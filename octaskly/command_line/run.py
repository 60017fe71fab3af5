"""`octaskly run`: a command on the cluster, with its files, its output as it comes and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from octaskly.command_line import exit_codes, interrupts, waiting
from octaskly.command_line.connect import async_client
from octaskly.command_line.copying import Copy, drained, wait_for_end
from octaskly.command_line.fetched import Fetched, bring_home, document
from octaskly.command_line.show import json_option, print_json, tell
from octaskly.command_line.status_line import StatusLine
from octaskly.command_line.submit import shell_line
from octaskly.command_line.task_options import read_options, task_options
from octaskly.errors import OctasklyError, Unreachable

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.specs import TaskOptions

LOOK_S: Final = 1.0
STOPPING_S: Final = 20.0
"""A submission that is on its way is waited for this long before it is cancelled."""
LAST_OUTPUT_S: Final = 5.0
"""Who stops a command does not wait longer for the last of its output."""


@click.command(context_settings={"allow_interspersed_args": False})
@task_options
@click.option(
    "--output-dir", type=click.Path(file_okay=False, path_type=Path), default=".", help="Where outputs go. Else here."
)
@click.option("-d", "--detach", is_flag=True, help="Submit, print the id, and leave: fetch the rest later.")
@click.option("--raw", is_flag=True, help="Let escape sequences of the output reach this terminal.")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    *,
    inputs: tuple[str, ...],
    output_dir: Path,
    detach: bool,
    raw: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Run a command on the cluster as if it ran here.

    \b
    octaskly run -- uname -a
    octaskly run -i photo.png -o photo.webp -- convert photo.png photo.webp
    octaskly run -i data 'sort data/* | uniq -c'

    Its inputs go up, stdout and stderr come as they are written, its outputs come home, and the exit code is the
    command's own: 128 and the number for a signal, 124 for a time-out. Ctrl-C cancels it. Several words are one
    command with its arguments; one word is a line for the shell. It reads no stdin: give it files with -i.

    With --json the streams are not shown: the task is printed when it has ended, with what it wrote.
    """  # noqa: D301 - \b keeps lines as they are
    options = read_options(given)
    options["inputs"] = inputs
    line = shell_line(command)
    if detach:
        from octaskly.command_line.connect import client as connect

        with connect() as client:
            task = client.submit(line, **options)
        if as_json:
            print_json(task)
        else:
            waiting.Warner().tell([task])
            click.echo(task.id)
        return 0
    return asyncio.run(Run(output_dir, is_raw=raw, as_json=as_json).to_its_end(line, options))


class Run:
    """One command, from its inputs to its exit code."""

    def __init__(self, output_dir: Path, *, is_raw: bool, as_json: bool) -> None:
        self._as_json = as_json
        self._output_dir = output_dir
        self._is_raw = is_raw
        self._status = StatusLine()
        self._has_said_something = False
        self._warner = waiting.Warner()
        self._warnings: list[str] = []

    async def to_its_end(self, line: str, options: TaskOptions) -> int:
        """Return the exit code."""
        with interrupts.watched() as self._interrupts:
            async with async_client() as self._client:
                submitting = asyncio.create_task(self._client.submit(line, **options))
                interrupt = asyncio.create_task(self._interrupts.has_come.wait())
                await asyncio.wait({submitting, interrupt}, return_when=asyncio.FIRST_COMPLETED)
                if not submitting.done():
                    return await self._stop_submitting(submitting)
                task = await submitting
                self._warnings = task.warnings
                if not self._as_json:
                    self._warner.tell([task])
                try:
                    return await self._follow(task, interrupt)
                finally:
                    interrupt.cancel()
                    self._status.hide()

    async def _stop_submitting(self, submitting: asyncio.Task[Task]) -> int:
        # The request may be on its way already: then there is a task, and it is to be cancelled.
        with contextlib.suppress(OctasklyError, asyncio.TimeoutError):
            task = await asyncio.wait_for(submitting, STOPPING_S)
            await self._client.cancel(task.id)
        return self._interrupts.code

    async def _follow(self, task: Task, interrupt: asyncio.Task[Any]) -> int:
        targets = () if self._as_json else (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer))
        copies = [
            Copy(self._client, task.id, stream, target, is_raw=self._is_raw, before_piece=self._note_piece)
            for stream, target in targets
        ]
        ending = asyncio.create_task(wait_for_end(self._client, task.id))
        failing = asyncio.create_task(_first_error([copy.work for copy in copies]))
        explaining = asyncio.create_task(self._explain(task.id))
        try:
            await asyncio.wait({ending, interrupt, failing}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return await self._cancel(task, copies, ending)
            ended = await ending
            draining = asyncio.create_task(drained(copies))
            await asyncio.wait({draining, interrupt}, return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                draining.cancel()
                return self._left(copies)
            if not draining.result():
                tell(f"The output did not come to its end. Look: octaskly logs {task.id}")
        except Unreachable as error:
            raise OctasklyError(f"{error}. The task goes on: octaskly logs -f {task.id}") from error
        finally:
            works = (explaining, failing, ending, *(copy.work for copy in copies))
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        return await self._finish(ended)

    def _note_piece(self) -> None:
        self._status.hide()
        self._has_said_something = True

    async def _explain(self, task_id: str) -> None:
        """Say why nothing happens yet: on the status line for as long as that is so, elsewhere once."""
        await asyncio.sleep(LOOK_S if self._status.can_show else waiting.QUIET_WAIT_S)
        with contextlib.suppress(OctasklyError):
            while not self._has_said_something:
                why = await self._client.why(task_id)
                if why.status != "queued":
                    break
                if not self._status.can_show:
                    if not self._warner.has_told:
                        tell(waiting.sentence(why, task_id))
                    break
                self._status.show(f"Nothing runs yet: {waiting.reasons(why)}")
                await asyncio.sleep(LOOK_S)
        self._status.hide()

    async def _cancel(self, task: Task, copies: Sequence[Copy], ending: asyncio.Task[Task]) -> int:
        broken = next((copy.work.exception() for copy in copies if copy.work.done() and copy.work.exception()), None)
        self._status.hide()
        if self._interrupts.has_come.is_set():
            tell(f"Cancelling {task.id}; once more leaves at once")
        with contextlib.suppress(OctasklyError):  # It may have ended meanwhile.
            await self._client.cancel(task.id)
        if broken is not None:
            raise broken
        ended = await ending
        await drained(copies, longest_s=LAST_OUTPUT_S)
        if self._as_json:
            print_json(document(ended, [], self._warnings))
        return self._left(copies)

    def _left(self, copies: Sequence[Copy]) -> int:
        """Return the code of who was interrupted; leave at once while somebody rests who reads our output."""
        if any(copy.is_writing for copy in copies):
            # The thread that writes cannot be stopped, and would be waited for.
            os._exit(self._interrupts.code)
        return self._interrupts.code

    async def _finish(self, task: Task) -> int:
        attempt = None
        if exit_codes.needs_attempt(task):
            attempts = await self._client.attempts(task.id)
            attempt = attempts[-1] if attempts else None
        code, sentence = exit_codes.exit_code(task, attempt)
        fetched: list[Fetched] = []
        try:
            if task.outputs and task.status != "cancelled":
                await bring_home(self._client, task, self._output_dir, fetched)
        finally:
            if self._as_json:
                print_json(document(task, fetched, self._warnings))
        if sentence:
            tell(sentence)
        return code


async def _first_error(works: Sequence[asyncio.Task[None]]) -> None:
    """Return when one of them has failed, and never otherwise."""
    done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION) if works else (set(), None)
    if not any(not work.cancelled() and work.exception() for work in done):
        await asyncio.Event().wait()
