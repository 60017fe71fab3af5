"""GNU Parallel's --joblog: a line for each ended task, in its columns, so that its tools read it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

import msgspec

from octaskly.errors import BadFile

HEADER: Final = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
_COLUMNS: Final = 9


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One ended task."""

    number: int
    host: str
    started_at: float
    duration_s: float
    sent_bytes: int
    received_bytes: int
    exit_code: int
    signal: int
    command: str

    @property
    def ok(self) -> bool:
        """Return whether the command did what it should."""
        return self.exit_code == 0 and self.signal == 0

    def text(self) -> str:
        """Return the line. A line break in the command becomes NUL, as Parallel writes it."""
        command = self.command.replace("\n", "\0")
        return (
            f"{self.number}\t{self.host}\t{self.started_at:.3f}\t{self.duration_s:10.3f}\t{self.sent_bytes}\t"
            f"{self.received_bytes}\t{self.exit_code}\t{self.signal}\t{command}"
        )


def read(path: Path) -> dict[int, Line]:
    """Return what a log tells, by number; one that is not there is empty; a torn last line counts as not written."""
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}") from error
    if not text:
        return {}
    # No other separators: a command may hold what splitlines breaks at.
    header, *lines = text.split("\n")
    if header != HEADER:
        raise BadFile(f"{path} is no joblog: its first line is not GNU Parallel's")
    found = {}
    for place, line in enumerate(lines[:-1], 2):
        parsed = _parsed(line)
        if parsed is None:
            raise BadFile(f"{path} line {place} is not one of a joblog: {line[:60]!r}")
        found[parsed.number] = parsed
    return found


def open_for_more(path: Path, *, keeps: bool) -> IO[str]:
    """Return the log, open for more lines; without `keeps` it begins anew."""
    try:
        if keeps:
            _cut_torn_line(path)
        file = path.open("a" if keeps else "w", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise BadFile(f"Cannot write {path}: {error.strerror}") from error
    if file.tell() == 0:
        file.write(HEADER + "\n")
        file.flush()
    return file


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)


def _parsed(line: str) -> Line | None:
    columns = line.split("\t", _COLUMNS - 1)
    try:
        number, host, started, duration, sent, received, code, signal, command = columns
        return Line(
            number=int(number),
            host=host,
            started_at=float(started),
            duration_s=float(duration),
            sent_bytes=int(sent),
            received_bytes=int(received),
            exit_code=int(code),
            signal=int(signal),
            command=command.replace("\0", "\n"),
        )
    except ValueError:
        return None
