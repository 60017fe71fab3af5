"""One dim line on a terminal that says what is waited for, and is gone before anything else is written."""

from __future__ import annotations

import shutil
import sys

from octaskly.terminal_text import one_line


class StatusLine:
    """Shows and hides itself on stderr; nothing happens where that is no terminal."""

    def __init__(self) -> None:
        self._is_shown = False
        self.can_show = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Show a text, cut to the line."""
        if self.can_show:
            width = max(10, shutil.get_terminal_size().columns - 1)
            sys.stderr.write(f"\r\x1b[2K\x1b[2m{one_line(text)[:width]}\x1b[0m")
            sys.stderr.flush()
            self._is_shown = True

    def hide(self) -> None:
        """Take it away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_shown = False
