"""Log lines for people or machines, with levels from OCTASKLY_LOG. Standard library only."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

TRACE: Final = 5
LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
QUIET: Final = {"asyncio": logging.WARNING, "zeroconf": logging.WARNING}
"""Libraries whose own talk nobody asked for; a per-module override brings it back."""

_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What a record has without anybody's `extra`."""

_LEVEL_NAMES: Final = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}


class BadLogLevels(ValueError):
    """The log specification names no known level."""


def parse_levels(spec: str) -> tuple[int, dict[str, int]]:
    """Return the general level and the per-module ones of a specification like `info,worker_node=debug`."""
    general, modules = logging.INFO, {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        module, is_override, word = part.rpartition("=")
        level = LEVELS.get(word.strip().lower())
        if level is None or (is_override and not module.strip()):
            raise BadLogLevels(f"{part!r} is none of {', '.join(LEVELS)}, and no module=level either")
        if is_override:
            # `a::b` is how RUST_LOG writes `a.b`.
            modules[module.strip().replace("::", ".")] = level
        else:
            general = level
    return general, modules


def levels_from(env: Mapping[str, str]) -> tuple[int, dict[str, int]]:
    """Read OCTASKLY_LOG, or RUST_LOG when that is unset."""
    return parse_levels(env.get("OCTASKLY_LOG") or env.get("RUST_LOG") or "info")


def set_up(general: int, modules: Mapping[str, int], *, as_json: bool) -> None:
    """Send all logs to standard error."""
    logging.addLevelName(TRACE, "TRACE")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TerminalFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(general)
    for name, level in {**QUIET, **modules}.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("zeroconf").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave the message of a network that is gone, which says it all, and not how the library came to meet it."""
    record.exc_info = None
    return True


def escaped(text: str) -> str:
    """Return text that can neither move a terminal's cursor nor begin a second line nor reorder itself."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def of_attempt(event: str, attempt_id: str, **more: object) -> dict[str, object]:
    """Return the `extra` of an event that concerns an attempt: its name, the attempt's ids, and more."""
    task_id, _, number = attempt_id.rpartition(".")
    attempt = int(number) if number.isdecimal() else None
    return {"event": event, "attempt_id": attempt_id, "task_id": task_id, "attempt": attempt, **more}


def _message_of(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text


class TerminalFormatter(logging.Formatter):
    """One line an event: time, level, module, text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        first, *more = _message_of(record, self).split("\n") if record.exc_info else [record.getMessage()]
        moment = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = _LEVEL_NAMES.get(record.levelno, record.levelname.lower())
        lines = [f"{moment} {level:<5} {record.name}: {escaped(first)}", *(f"    {escaped(line)}" for line in more)]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object an event; what was given as `extra` stands in it under its own names."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": _LEVEL_NAMES.get(record.levelno, record.levelname.lower()),
            "module": record.name,
            "message": _message_of(record, self),
        }
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                event.setdefault(name, value)  # never in the place of what stands there already
        # ASCII only: every control and bidi character is escaped, but for one.
        return json.dumps(event, default=_plain).replace("\x7f", "\\u007f")


def _plain(value: object) -> object:
    """Return what JSON has for a value that it has no form of."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
