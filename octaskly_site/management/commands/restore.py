"""`manage.py restore PATH`: puts a backup in the database's place, while no dispatcher runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db.migrations.loader import MigrationLoader

from octaskly_site.copy_command import CopyCommand, given_secret, secret_file
from octaskly_site.database_copy import CopyRefused
from octaskly_site.restore import Opening, WrongKey, restore


class Command(CopyCommand):
    """Restore a backup."""

    help = "Put the backup PATH in the database's place; the dispatcher must not run."
    path_help = "file made by backup"
    force_help = "put a database that stands there aside, as NAME.before-restore-TIME"

    def act(self, path: Path, database: Path, *, is_forced: bool) -> None:
        """Restore and tell what stands where."""
        opening = Opening(settings.OCTASKLY_CA_WRAPPING_KEY, known_migrations(), settings.OCTASKLY_AUDIT_SEALING_KEY)
        try:
            done = restore(path, database, opening, replaces=is_forced, now=datetime.now(UTC))
        except WrongKey as error:
            raise CopyRefused(_what_is_wrong_with_the_key(error, secret_file(database))) from None
        self.stdout.write(f"{database}: {done.contents}, from {path}")
        if done.former:
            self.stdout.write(f"the database that stood there is kept as {done.former}")


def known_migrations() -> set[tuple[str, str]]:
    """Return every migration of this code, with those that one of them stands for."""
    found = MigrationLoader(None).disk_migrations
    replaced = {pair for migration in found.values() for pair in migration.replaces}
    return {*found, *replaced}


def _what_is_wrong_with_the_key(error: WrongKey, file: Path) -> str:
    if given_secret():
        return f"the secret key given by --secret-key or OCTASKLY_SECRET_KEY does not open {error}"
    if file.exists():
        return f"the secret key in {file} does not open {error}; put the one there that belongs to it"
    return f"the secret key {file} is missing; put the one there that belongs to {error}"
