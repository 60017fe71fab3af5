"""`octaskly dispatcher`, `worker` and `manage`: the programs, with all further arguments passed through."""

from __future__ import annotations

import click

from octaskly import programs

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _command(name: str) -> click.Command:
    @click.command(name, context_settings=_PASS_THROUGH, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> int:
        return programs.PROGRAMS[name](arguments)

    return command


dispatcher = _command("dispatcher")
worker = _command("worker")
manage = _command("manage")
