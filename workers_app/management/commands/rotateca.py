"""`manage.py rotateca`: a new certificate authority takes over from the present one, while everything goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from accounts_app.database_flags import add_database_flags, existing_database
from workers_app import rotation
from workers_app.rotation import Rotation, RotationRefused
from workers_app.services import WrongSecretKey


class Command(BaseCommand):
    """Rotate the cluster's CA."""

    help = "Make a new certificate authority, which takes over when every worker trusts it; the dispatcher may run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        chosen = parser.add_mutually_exclusive_group()
        chosen.add_argument("--status", action="store_true", help="only tell how far the new authority has come")
        chosen.add_argument(
            "--finish",
            action="store_true",
            help="drop the old authority now; who does not know the new one must enrol anew",
        )
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Begin, tell or finish."""
        path = existing_database()
        now = datetime.now(UTC)
        try:
            if options["status"]:
                self._tell(rotation.status(now), now)
            elif options["finish"]:
                self._tell_end(rotation.finish(None, now))
            else:
                self._tell(rotation.begin(None, now), now)
        except RotationRefused as error:
            raise CommandError(str(error)) from error
        except WrongSecretKey as error:
            raise CommandError(f"--secret-key: {error}") from error
        except DatabaseError as error:
            raise CommandError(f"{path} is no usable database ({error}); start the dispatcher once first") from error

    def _tell(self, found: Rotation | None, now: datetime) -> None:
        if found is None:
            self.stdout.write("One certificate authority, and no rotation under way.")
            return
        days = max(0, (found.ends_at - now).days)
        self.stdout.write(
            f"The new certificate authority {found.new_digest[:16]} takes over from {found.old_digest[:16]}: "
            f"{len(found.ready_workers)} workers ready, {len(found.waiting_workers)} not yet."
        )
        if found.waiting_workers:
            self.stdout.write(f"  Not ready: {', '.join(found.waiting_workers)}")
        if found.waiting_tokens:
            self.stdout.write(f"  Join tokens that know the old one only: {', '.join(found.waiting_tokens)}")
        self.stdout.write(
            f"The running dispatcher drops the old one when all are ready and those tokens are used up or expired, in {days} "
            "days at the latest; --finish does so now."
        )

    def _tell_end(self, ended: Rotation) -> None:
        self.stdout.write(f"Dropped the old certificate authority {ended.old_digest[:16]}.")
        if ended.waiting_workers:
            self.stdout.write(f"  To enrol anew unless they are connected now: {', '.join(ended.waiting_workers)}")
        if ended.waiting_tokens:
            self.stdout.write(f"  Join tokens that are void: {', '.join(ended.waiting_tokens)}")
