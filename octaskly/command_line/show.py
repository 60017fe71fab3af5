"""How things are printed: tables for people, plain columns for pipes, JSON for programs; errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import msgspec

from octaskly import terminal_text
from octaskly.terminal_text import one_line

F = TypeVar("F", bound=Callable[..., Any])

ID_WIDTH: Final = 36
KEPT_WIDTH: Final = 16
"""Of a column that is not the last: states and times stay whole on a narrow terminal."""
GAP_WIDTH: Final = 3
"""Between two columns of a table."""
COLOURS: Final = {
    "queued": "cyan", "running": "blue", "completed": "green", "failed": "red", "cancelled": "yellow",
    "connected": "green", "disconnected": "red", "pending": "yellow", "suspended": "red", "revoked": "red",
    "draining": "yellow", "paused": "yellow",
}  # fmt: skip


def json_option(function: F) -> F:
    """Give a command the flag --json; what is said to its group is said to it."""

    def is_wanted(ctx: click.Context, _: click.Parameter, is_said: Any) -> bool:
        return bool(is_said or (ctx.parent and ctx.parent.params.get("as_json")))

    option = click.option("--json", "as_json", is_flag=True, callback=is_wanted, help="Print JSON and nothing else.")
    return option(function)


def tell(text: str) -> None:
    """Say something beside the result, on stderr."""
    shown = "\n".join(one_line(line) for line in text.split("\n"))
    click.echo(f"octaskly: {shown}", err=True)


def print_json(value: Any) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json_line(value).decode())


def json_line(value: Any) -> bytes:
    """Return a JSON document as a line. Times have a Z, as in REST: msgspec writes UTC just so."""
    try:
        return terminal_text.json_line(msgspec.json.encode(value).decode()).encode() + b"\n"
    except UnicodeEncodeError:
        # Names of files here may be no Unicode: as others show them, with replacement characters.
        return json.dumps(msgspec.to_builtins(value)).encode() + b"\n"


def is_terminal() -> bool:
    """Return whether stdout is one."""
    return sys.stdout.isatty()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "") -> None:
    """Print rows: as a table on a terminal, separated by tabs in a pipe."""
    if not is_terminal():
        sys.stdout.write("\t".join(columns) + "\n")
        for row in rows:
            sys.stdout.write("\t".join(one_line(cell) for cell in row) + "\n")
        return
    shown = rich_table(columns, rows)
    if not shown.row_count and empty:
        click.echo(empty)
        return
    console().print(shown)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """Return the table for a terminal. Cells are text, never markup."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [[one_line(cell) for cell in row] for row in rows]
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    longest = [max((cell_len(line[place]) for line in lines), default=0) for place in range(len(columns))]
    for column, (least, most) in zip(columns, widths_of(columns, longest, console().width), strict=True):
        shown.add_column(column, no_wrap=True, overflow="ellipsis", min_width=least, max_width=most)
    for line in lines:
        shown.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
    return shown


def widths_of(columns: Sequence[str], longest: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Return the least and the most width of each column, in cells of the terminal, which has room for so many. Pure.

    Where there is not room for all, the last column gives way first, which holds the long texts, then the others down
    to their least. Left to rich, one long text would take the same from every column, and nothing be left of short ones.
    """
    least = [
        max(ID_WIDTH if column == "ID" else len(column), min(width, KEPT_WIDTH))
        for column, width in zip(columns, longest, strict=True)
    ]
    least[-1] = len(columns[-1])
    most = [max(pair) for pair in zip(least, longest, strict=True)]
    room -= GAP_WIDTH * (len(columns) - 1)
    if sum(most[:-1]) + least[-1] > room:
        most = least[:]
    most[-1] = max(least[-1], min(longest[-1], room - sum(most[:-1])))
    return list(zip(least, most, strict=True))


def console() -> Any:
    """Return rich's console on stdout."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Print one thing's fields, a line each; empty ones are left out."""
    shown = [(name, value) for name, value in pairs if value]
    if not is_terminal():
        for name, value in shown:
            sys.stdout.write(f"{name}\t{one_line(value)}\n")
        return
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        colour = COLOURS.get(value)
        click.echo(click.style(name.ljust(width), dim=True) + "  " + click.style(one_line(value), fg=colour))


def size(count: int | None) -> str:
    """Return bytes as people read them."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - one step
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(milliseconds: int | None) -> str:
    """Return a duration as people read it."""
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    if seconds < 60:  # noqa: PLR2004 - one minute
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(moment: datetime | None) -> str:
    """Return how long ago something was; in a pipe the time itself."""
    if moment is None:
        return ""
    if not is_terminal():
        return clock(moment)
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def age_column() -> str:
    """Return what a column of `ago` is called."""
    return "AGE" if is_terminal() else "CREATED"


def clock(moment: datetime | None) -> str:
    """Return a time in ISO 8601 with Z."""
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
