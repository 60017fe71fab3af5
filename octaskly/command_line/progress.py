"""A map's progress on a terminal: a bar with how many are done, how many failed, the rate and the time left."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from octaskly.terminal_text import one_line

REFRESH_S: Final = 0.2


class Progress:
    """Counts always; draws only where stderr is a terminal."""

    def __init__(self, total: int | None) -> None:
        self.done = 0
        self.failed = 0
        self._total = total
        self._note = ""
        self._started_at = time.monotonic()
        self._bar: Any = None
        self._row: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            columns = (
                BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False, style="dim",
                           table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            )  # fmt: skip
            # One line, drawn by hand: so output can be written between two drawings.
            self._bar = Bar(
                *columns,
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._row = self._bar.add_task("", total=self._total, failed="", rate="", note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def count(self, *, ok: bool) -> None:
        """Count one that has ended."""
        self.done += 1
        self.failed += not ok

    @property
    def is_drawn(self) -> bool:
        """Return whether anybody sees it."""
        return self._bar is not None

    def note(self, text: str) -> None:
        """Show a text beside the bar, until another comes."""
        self._note = one_line(text)

    async def draw(self) -> None:
        """Draw again and again."""
        while True:
            self._refresh()
            await asyncio.sleep(REFRESH_S)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar away while something else is written."""
        if self._bar is None:
            yield
            return
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
        bar, self._bar = self._bar, None
        try:
            yield
        finally:
            self._bar = bar
            self._refresh()

    def _refresh(self) -> None:
        if self._bar is None:
            return
        passed = max(0.001, time.monotonic() - self._started_at)
        failed = f"[red]{self.failed} failed[/red]" if self.failed else ""
        self._bar.update(
            self._row, completed=self.done, failed=failed, rate=f"{self.done / passed:.1f}/s", note=self._note
        )
        self._bar.refresh()
