"""`octaskly logs`: what a task wrote, whole or live."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import click

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import json_option, print_json
from octaskly.terminal_text import Neutraliser

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.client import Client


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--stderr", "wants_stderr", is_flag=True, help="Its stderr in place of its stdout.")
@click.option("--both", is_flag=True, help="Its stdout on stdout and its stderr on stderr.")
@click.option("--raw", is_flag=True, help="Every byte, also those that could steer a terminal.")
@json_option
def logs(task_id: str, *, follow: bool, wants_stderr: bool, both: bool, raw: bool, as_json: bool) -> None:
    """Show what a task wrote until now; byte by byte in a pipe or file, without escape sequences on a terminal.

    With --json one document with the text of the streams; with --follow a line for each piece as it comes.
    """
    streams = ["stdout", "stderr"] if both else ["stderr" if wants_stderr else "stdout"]
    with connect() as client:
        task = client.find_task(task_id)
        if as_json and not follow:
            texts = {stream: "".join(_texts(client, task, stream, follow=False)) for stream in streams}
            print_json({"id": task.id, "status": task.status, **texts})
            return

        def copy(stream: str, target: IO[bytes]) -> None:
            if as_json:
                for text in _texts(client, task, stream, follow=True):
                    print_json({"stream": stream, "text": text})
                    sys.stdout.flush()
                return
            clean = Neutraliser() if target.isatty() and not raw else None
            for piece in _pieces(client, task, stream, follow=follow):
                target.write(clean.feed(piece) if clean else piece)
                target.flush()

        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(copy, "stderr", sys.stderr.buffer) if both else None
            copy(streams[0], sys.stdout.buffer)
            if beside is not None:
                beside.result()


def _pieces(client: Client, task: Task, stream: str, *, follow: bool) -> Iterator[bytes]:
    if follow or task.has_ended:
        return client.stream(task.id, stream, follow=follow)
    return client.stream_so_far(task.id, stream)


def _texts(client: Client, task: Task, stream: str, *, follow: bool) -> Iterator[str]:
    """Yield the pieces as text, no character torn, what is no UTF-8 as replacement characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in _pieces(client, task, stream, follow=follow):
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
