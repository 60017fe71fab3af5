"""`octaskly logs`: what a task wrote, whole or live."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import click

from octaskly.command_line.connect import client as connect
from octaskly.terminal_text import Neutraliser


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--stderr", "wants_stderr", is_flag=True, help="Its stderr in place of its stdout.")
@click.option("--both", is_flag=True, help="Its stdout on stdout and its stderr on stderr.")
@click.option("--raw", is_flag=True, help="Every byte, also those that could steer a terminal.")
def logs(task_id: str, *, follow: bool, wants_stderr: bool, both: bool, raw: bool) -> None:
    """Show what a task wrote until now; byte by byte in a pipe or file, without escape sequences on a terminal."""
    with connect() as client:
        task = client.find_task(task_id)

        def copy(stream: str, target: IO[bytes]) -> None:
            clean = Neutraliser() if target.isatty() and not raw else None
            if follow or task.has_ended:
                pieces = client.stream(task.id, stream, follow=follow)
            else:
                pieces = client.stream_so_far(task.id, stream)
            for piece in pieces:
                target.write(clean.feed(piece) if clean else piece)
                target.flush()

        if not both:
            copy("stderr" if wants_stderr else "stdout", sys.stdout.buffer)
            return
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(copy, "stderr", sys.stderr.buffer)
            copy("stdout", sys.stdout.buffer)
            second.result()
