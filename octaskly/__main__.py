"""`octaskly` and `python -m octaskly`: the command line, from arguments to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

BROKEN_PIPE = 141
"""As a shell shows a program that SIGPIPE ended."""
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 fine, 1 failed, 2 bad usage, or the code of the command that `run` ran."""
    import click

    from octaskly.command_line.show import tell
    from octaskly.command_line.tree import ReaderLeft, tree
    from octaskly.errors import OctasklyError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Names and commands of others may hold what this terminal's encoding has not.
            stream.reconfigure(errors="backslashreplace")
    try:
        result = tree.main(
            args=None if arguments is None else list(arguments), prog_name="octaskly", standalone_mode=False
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OctasklyError as error:
        tell(str(error))
        return 1
    except (ReaderLeft, BrokenPipeError):
        _give_up_stdout()
        return BROKEN_PIPE
    except OSError as error:
        # A full disk under our output, a file that went away: what it was is in the error.
        tell(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return 1
    except UnicodeError as error:
        tell(f"An argument is not valid text: {error.reason}" if isinstance(error, UnicodeEncodeError) else str(error))
        return 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _give_up_stdout() -> None:
    """Let the interpreter's last flush go nowhere, not into the pipe that broke."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    from octaskly import programs

    programs.main()
