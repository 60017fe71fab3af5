"""`manage.py backup PATH`: a checked copy of the database, also while the dispatcher runs."""

from __future__ import annotations

from pathlib import Path

from octaskly_site.backup import back_up
from octaskly_site.copy_command import CopyCommand, given_secret, secret_file


class Command(CopyCommand):
    """Back the database up."""

    help = "Write a consistent, checked copy of the database to PATH; the dispatcher may go on working."
    path_help = "file to write; its folder must be there"
    force_help = "replace an older backup of this name"

    def act(self, path: Path, database: Path, *, is_forced: bool) -> None:
        """Make the copy and tell what else is needed to open it."""
        contents = back_up(database, path, replaces=is_forced)
        self.stdout.write(f"{path}: {contents}")
        secret = secret_file(database)
        if given_secret():
            source = "it is given by --secret-key or OCTASKLY_SECRET_KEY here"
        elif secret.exists():
            source = f"here it is the file {secret}"
        else:
            source = f"here there is none: {secret} is missing"
        self.stderr.write(f"The backup opens only with the secret key, which is not in it; {source}. Keep both.")
