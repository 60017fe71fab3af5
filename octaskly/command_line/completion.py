"""`octaskly completion`: the script that a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  octaskly completion bash > ~/.local/share/bash-completion/completions/octaskly
    zsh:   octaskly completion zsh > "${fpath[1]}/_octaskly"
    fish:  octaskly completion fish > ~/.config/fish/completions/octaskly.fish
    """  # noqa: D301 - \b keeps lines as they are
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"No completion for {shell}.")
    maker = kind(ctx.find_root().command, {}, "octaskly", "_OCTASKLY_COMPLETE")
    # Not `source()`: that looks for the shell here, and the script may be for another machine.
    click.echo(maker.source_template % maker.source_vars())
