"""The tree of commands. Names, modules and one-line texts stand here, so that `--help` imports none of them."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "Run a command on the cluster as if it ran here."),
    "map": ("map", "Run a command for each of many values, like GNU Parallel."),
    "submit": ("submit", "Submit commands and return at once."),
    "tasks": ("tasks", "List tasks."),
    "task": ("tasks", "Show one task."),
    "logs": ("logs", "Show what a task wrote."),
    "why": ("tasks", "Say why a task waits."),
    "wait": ("steer", "Wait until tasks have ended."),
    "cancel": ("steer", "Cancel tasks."),
    "retry": ("steer", "Queue ended tasks again."),
    "files": ("files", "Store, list and fetch files."),
    "workers": ("workers", "List workers; approve, suspend, revoke, drain or resume one."),
    "join-token": ("workers", "Make a token that lets a machine join."),
    "stats": ("workers", "Show counts and load."),
    "login": ("login", "Sign in."),
    "logout": ("login", "Sign out."),
    "completion": ("completion", "Print the completion script of a shell."),
    "dispatcher": ("programs", "Run a dispatcher."),
    "worker": ("programs", "Run a worker."),
    "manage": ("programs", "Run a management command: jointoken, backup, restore and others."),
}


class ReaderLeft(Exception):
    """Whoever read our output has closed the pipe."""


class Tree(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it
        """Return all names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click calls it
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"octaskly.command_line.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that left is told apart from a failure, which click does not."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, is_asked: Any) -> None:
    if is_asked:
        from octaskly_wire import __version__

        click.echo(f"octaskly {__version__}")
        ctx.exit()


@click.group(cls=Tree, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--url", metavar="URL", help="The server; else OCTASKLY_URL, else that of the login.")
@click.option("--insecure", is_flag=True, help="Allow plain HTTP over a network.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def tree(ctx: click.Context, url: str | None, insecure: bool) -> None:  # noqa: FBT001 - click fills it
    """Run commands on a cluster, look at them, and fetch what came of them.

    \b
    octaskly login https://HOST:3000           first, once
    octaskly run -- hostname                   a command, as if it ran here
    octaskly map -i {} -o {}.gz gzip ::: *.log  one for each of many files

    `octaskly COMMAND --help` tells about one. Every command that prints can print JSON: --json.
    """  # noqa: D301 - \b keeps lines as they are
    ctx.obj = {"url": url, "is_insecure": insecure}
