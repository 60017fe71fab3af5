"""`octaskly run`: a command on the cluster, with its files, its output as it comes and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from octaskly.command_line import exit_codes, interrupts
from octaskly.command_line.connect import async_client
from octaskly.command_line.show import tell
from octaskly.command_line.status_line import StatusLine
from octaskly.command_line.submit import shell_line
from octaskly.command_line.task_options import read_options, task_options
from octaskly.errors import Busy, OctasklyError, Unreachable
from octaskly.terminal_text import Neutraliser

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.async_client import AsyncClient
    from octaskly.specs import TaskOptions

QUIET_WAIT_S: Final = 1.0
"""A task that waits for longer is explained."""
LOOK_S: Final = 1.0
SILENCE_S: Final = 20.0
"""After the task's end its streams end, too; one that says nothing for so long is given up."""


@click.command(context_settings={"allow_interspersed_args": False})
@task_options
@click.option("--output-dir", type=click.Path(file_okay=False, path_type=Path), default=".", help="For the outputs.")
@click.option("-d", "--detach", is_flag=True, help="Submit, print the id, and leave: fetch the rest later.")
@click.option("--raw", is_flag=True, help="Let escape sequences of the output reach this terminal.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...], *, inputs: tuple[str, ...], output_dir: Path, detach: bool, raw: bool, **given: Any
) -> int:
    """Run a command on the cluster as if it ran here.

    Its inputs go up, stdout and stderr come as they are written, its outputs come home, and the exit code is the
    command's own: 128 and the number for a signal, 124 for a time-out. Ctrl-C cancels it. Several words are one
    command with its arguments; one word is a line for the shell: octaskly run -- 'a | b'. It reads no stdin.
    """
    options = read_options(given)
    options["inputs"] = inputs
    line = shell_line(command)
    if detach:
        from octaskly.command_line.connect import client as connect

        with connect() as client:
            click.echo(client.submit(line, **options).id)
        return 0
    return asyncio.run(Run(output_dir, is_raw=raw).to_its_end(line, options))


class Run:
    """One command, from its inputs to its exit code."""

    def __init__(self, output_dir: Path, *, is_raw: bool) -> None:
        self._output_dir = output_dir
        self._is_raw = is_raw
        self._status = StatusLine()
        self._has_said_something = False

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
                try:
                    return await self._follow(task, interrupt)
                finally:
                    interrupt.cancel()
                    self._status.hide()

    async def _stop_submitting(self, submitting: asyncio.Task[Task]) -> int:
        # The request may be on its way already: then there is a task, and it is to be cancelled.
        with contextlib.suppress(OctasklyError, asyncio.TimeoutError):
            task = await asyncio.wait_for(submitting, SILENCE_S)
            await self._client.cancel(task.id)
        return self._interrupts.code

    async def _follow(self, task: Task, interrupt: asyncio.Task[Any]) -> int:
        streams = [
            asyncio.create_task(self._copy(task.id, "stdout", sys.stdout.buffer)),
            asyncio.create_task(self._copy(task.id, "stderr", sys.stderr.buffer)),
        ]
        ending = asyncio.create_task(wait_for_end(self._client, task.id))
        failing = asyncio.create_task(_first_error(streams))
        explaining = asyncio.create_task(self._explain(task.id))
        try:
            await asyncio.wait({ending, interrupt, failing}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return await self._cancel(task, streams, ending)
            ended = await ending
            await self._drain(streams)
        except Unreachable as error:
            raise OctasklyError(f"{error}. The task goes on: octaskly logs -f {task.id}") from error
        finally:
            works = (explaining, failing, ending, *streams)
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        return await self._finish(ended)

    async def _copy(self, task_id: str, stream: str, target: IO[bytes]) -> None:
        """Copy a stream as it comes; where that is refused, wait for the end and copy what was kept."""
        clean = Neutraliser() if target.isatty() and not self._is_raw else None
        offset = 0
        for follows in (True, False):
            try:
                async for piece in self._client.stream(task_id, stream, offset=offset, follow=follows):
                    offset += len(piece)
                    self._status.hide()
                    self._has_said_something = True
                    await asyncio.to_thread(write_all, target, clean.feed(piece) if clean else piece)
                return
            except Busy:
                if not follows:
                    raise
                await wait_for_end(self._client, task_id)

    async def _explain(self, task_id: str) -> None:
        """Say on the status line why nothing happens yet."""
        await asyncio.sleep(QUIET_WAIT_S)
        with contextlib.suppress(OctasklyError):
            while not self._has_said_something:
                why = await self._client.why(task_id)
                if why.status != "queued":
                    break
                reasons = "; ".join(f"{worker.name}: {worker.reason}" for worker in why.workers[:3])
                self._status.show(f"queued: {reasons}" if reasons else why.message)
                await asyncio.sleep(LOOK_S)
        self._status.hide()

    async def _cancel(self, task: Task, streams: Sequence[asyncio.Task[None]], ending: asyncio.Task[Task]) -> int:
        broken = next((work.exception() for work in streams if work.done() and work.exception()), None)
        self._status.hide()
        if self._interrupts.has_come.is_set():
            tell(f"Cancelling {task.id}; once more leaves at once")
        with contextlib.suppress(OctasklyError):  # It may have ended meanwhile.
            await self._client.cancel(task.id)
        if broken is not None:
            raise broken
        await ending
        await self._drain(streams)
        return self._interrupts.code

    async def _drain(self, streams: Sequence[asyncio.Task[None]]) -> None:
        _, late = await asyncio.wait(streams, timeout=SILENCE_S)
        for work in streams:
            if work not in late:
                work.result()
        if late:
            tell("The output did not come to its end; see octaskly logs")

    async def _finish(self, task: Task) -> int:
        attempt = None
        if exit_codes.needs_attempt(task):
            attempts = await self._client.attempts(task.id)
            attempt = attempts[-1] if attempts else None
        code, sentence = exit_codes.exit_code(task, attempt)
        if task.outputs and task.status != "cancelled":
            await bring_home(self._client, task, self._output_dir)
        if sentence:
            tell(sentence)
        return code


async def wait_for_end(client: AsyncClient, task_id: str) -> Task:
    """Return a task once it has ended."""
    while True:
        for task in await client.wait_some([task_id]):
            return task


async def bring_home(client: AsyncClient, task: Task, folder: Path) -> int:
    """Fetch all that a task left into a folder; return how many bytes."""
    count = 0
    for output in await client.outputs(task.id):
        await client.download(task.id, output, folder)
        count += output.size
    return count


def write_all(target: IO[bytes], data: bytes) -> None:
    """Write and flush, in a thread: whoever reads may be slow."""
    target.write(data)
    target.flush()


async def _first_error(works: Sequence[asyncio.Task[None]]) -> None:
    """Return when one of them has failed, and never otherwise."""
    done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION)
    if not any(not work.cancelled() and work.exception() for work in done):
        await asyncio.Event().wait()
