"""`manage.py auditprune`: removes old rows of the audit trail and leaves a signed tombstone."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts_app.database_flags import add_database_flags
from audit_app import checkpoints
from audit_app.keys import KeyIsElsewhere
from audit_app.pruning import NothingToPrune, find_range, prune
from audit_app.seal import WrongSeal
from audit_app.verifying import BadKeyFile, Key, key_here, verify

ACTOR = "operator"


def moment(text: str) -> datetime:
    """Return the time that a text like `2026-01-31` or `2026-01-31T12:00` names, in UTC where it does not say."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write 2026-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def days(text: str) -> int:
    """Return a number of days."""
    if not (text.isascii() and text.isdigit() and int(text) <= 36_500):  # noqa: PLR2004 - a hundred years
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of days from 0 to 36500")
    return int(text)


class Command(BaseCommand):
    """Remove old rows."""

    help = "Remove old rows of the audit trail, up to a checkpoint, and leave a signed tombstone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        age = parser.add_mutually_exclusive_group(required=True)
        age.add_argument("--before", type=moment, metavar="DATE", help="remove rows from before this date (UTC)")
        age.add_argument("--keep-days", type=days, metavar="N", help="remove rows older than so many days")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--key", type=Path, metavar="FILE", help="the key, where auditkey --export put it")
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Inspect, ask and remove; exit 1 and say why when nothing was removed."""
        now = datetime.now(UTC)
        before = options["before"] or now - timedelta(days=options["keep_days"])
        try:
            self._prune(before, now, options["key"], is_agreed=options["yes"])
        except KeyIsElsewhere as error:
            self.stderr.write(f"octaskly: {error}")
        except (NothingToPrune, WrongSeal, BadKeyFile) as error:
            self.stderr.write(f"octaskly: nothing was removed: {error}")
        except OSError as error:
            self.stderr.write(f"octaskly: nothing was removed: {error.filename}: {error.strerror}")
        else:
            return
        sys.exit(1)

    def _prune(self, before: datetime, now: datetime, key_file: Path | None, *, is_agreed: bool) -> None:
        key = Key.of_file(key_file) if key_file else key_here()
        if key is None:
            raise NothingToPrune("nothing was ever recorded")
        # What does not fit now must not be buried.
        inspected = verify(key)
        if inspected.findings:
            raise NothingToPrune(f"the trail is broken at row {inspected.first_bad_id}: {inspected.problem}")
        rows = find_range(before, checkpoints.default_file(), key)
        told = f"{rows.row_count} rows of the audit, {rows.first_id} to {rows.checkpoint.row_id}"
        if not is_agreed and input(f"Remove {told}, for good? [y/N] ").strip().lower() not in {"y", "yes"}:
            raise NothingToPrune("not agreed to")
        prune(rows, inspected, ACTOR, now)
        self.stdout.write(f"removed {told}; a signed tombstone stands in their place")
