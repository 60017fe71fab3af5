"""`octaskly files`: store, list, fetch and remove files on the server."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import age_column, ago, json_option, print_json, size, table
from octaskly.errors import NotFound

if TYPE_CHECKING:
    from octaskly.client import Client


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def files(ctx: click.Context, *, as_json: bool) -> None:
    """Store files on the server, list them, fetch them. Without a command: ls."""
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)


@files.command("ls")
@json_option
def list_files(*, as_json: bool) -> None:
    """List your files. With --json a line each."""
    _list(as_json=as_json)


@files.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--as", "name", metavar="NAME", help="The name there, for a single file.")
@json_option
def put(paths: tuple[str, ...], *, name: str | None, as_json: bool) -> None:
    """Store files; folders are walked. A file of the same name is replaced."""
    from octaskly.inputs import local_files

    found = local_files(paths, Path.cwd())
    if name and len(found) != 1:
        raise click.UsageError(f"--as is for a single file, and there are {len(found)}.")
    with connect() as client:
        for file in found:
            stored = client.put_file(name or file.name, file.path)
            if as_json:
                print_json(stored)
            else:
                click.echo(f"{stored.name}\t{stored.size}\tsha256:{stored.sha256}")


@files.command()
@click.argument("name")
@click.option("-o", "--output", metavar="PATH", help="Where to; - is stdout. Else its own name, below this folder.")
@json_option
def get(name: str, *, output: str | None, as_json: bool) -> None:
    """Fetch a file."""
    if as_json and output == "-":
        raise click.UsageError("--json and --output - both want stdout.")
    from octaskly.placing import placed

    with connect() as client:
        try:
            pieces = client.get_file(name)
            if output == "-":
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                return
            folder, last = (Path(output).parent, Path(output).name) if output else (Path(), name)
            with placed(folder, last) as file:
                size_bytes = sum(file.write(piece) for piece in pieces)
            if as_json:
                print_json({"name": name, "size": size_bytes, "path": str(folder / last)})
        except NotFound:
            _no_such_file(client, name)


@files.command()
@click.argument("names", nargs=-1, required=True)
@json_option
def rm(names: tuple[str, ...], *, as_json: bool) -> None:
    """Remove files. Tasks that were submitted with them keep theirs."""
    with connect() as client:
        for name in names:
            try:
                client.remove_file(name)
                if as_json:
                    print_json({"name": name})
            except NotFound:
                _no_such_file(client, name)


def _list(*, as_json: bool) -> None:
    with connect() as client:
        found = list(client.files())
    if as_json:
        for file in found:
            print_json(file)
        return
    table(
        ("NAME", "SIZE", age_column(), "SHA256"),
        ((file.name, size(file.size), ago(file.created_at), file.sha256) for file in found),
        empty="You have stored no files.",
    )


def _no_such_file(client: Client, name: str) -> NoReturn:
    close = difflib.get_close_matches(name, [file.name for file in client.files()], n=1)
    hint = f" Did you mean {close[0]}?" if close else " Look: octaskly files"
    raise NotFound(f"There is no file {name!r}.{hint}", status=404, field="name")
