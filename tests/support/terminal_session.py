"""A session with `octaskly` in a real terminal, and what that looked like, as a small HTML page."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support.programs import ROOT, clean_environment

ROWS, COLUMNS = 40, 136
ERASED: Final = re.compile(r"[^\n]*\r\x1b\[2K")
"""What stood on a line that was cleared afterwards."""
PROMPT: Final = "\x1b[1;32m$\x1b[0m "
PAGE: Final = """<!doctype html><html lang="en"><title>octaskly</title><style>
body {{ margin: 0; background: #10151c; }}
main {{ display: inline-block; background: #10151c; color: #dbe3ee; padding: 22px 26px; font: 13px/1.45 "DejaVu Sans Mono", monospace; }}
pre {{ margin: 0; font: inherit; }}
{stylesheet}
</style><main><pre>{code}</pre></main></html>"""


class TerminalSession:
    """Types commands as a user with a login of its own; remembers what the terminal got."""

    def __init__(self, home: Path, url: str) -> None:
        home.mkdir(exist_ok=True)
        self._home = home
        self._environment = clean_environment(
            home, OCTASKLY_URL=url, PYTHONPATH=str(ROOT), TERM="xterm-256color", COLORTERM="truecolor"
        )
        self._seen = ""

    def quietly(self, *arguments: str, **variables: str) -> None:
        """Run a command that is not shown. Raises CalledProcessError."""
        self._finish([*arguments], variables)

    def seen_of(self, *arguments: str) -> str:
        """Return what the terminal gets of a command, byte for byte but for the ends of lines."""
        return self._finish([*arguments], {})

    def type(self, line: str) -> None:
        """Run a line that begins with `octaskly`, and keep it with what came of it. Raises CalledProcessError."""
        self._seen += f"{PROMPT}{line}\n{self._finish(shlex.split(line)[1:], {})}\n"

    def html(self) -> str:
        """Return a page that shows the session."""
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(ERASED.sub("", self._seen).rstrip()), soft_wrap=True)
        return console.export_html(code_format=PAGE, theme=MONOKAI)

    def _finish(self, arguments: list[str], variables: dict[str, str]) -> str:
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            command = [sys.executable, "-m", "octaskly", *arguments]
            program = subprocess.Popen(
                command,
                cwd=self._home,
                env={**self._environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)
        seen = b""
        try:
            while piece := _read(ours):
                seen += piece
        finally:
            os.close(ours)
        if code := program.wait():
            raise subprocess.CalledProcessError(code, command, seen)
        return seen.decode(errors="replace").replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # How Linux says that nobody has the other end open any more.
        return b""
