"""`manage.py workerbundle`: makes bundles for machines of other kinds than the dispatcher's own."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from octaskly_site import env
from octaskly_site.join import wheels
from octaskly_site.join.bundle import CannotBundle, installed_versions
from octaskly_site.join.shelf import BUNDLES_FOLDER, Shelf


class Command(BaseCommand):
    """Make worker bundles."""

    help = "Fetch the worker's packages from the package registry, once, and make bundles that machines join with."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read before Django starts."""
        parser.add_argument(
            "--python", nargs="+", choices=wheels.PYTHONS, default=wheels.PYTHONS, help="(default: all)"
        )
        parser.add_argument(
            "--platform", nargs="+", choices=wheels.PLATFORMS, default=["linux-x86_64"], help="(default: linux-x86_64)"
        )
        parser.add_argument("--db-path", help="database file, beside which they go (OCTASKLY_DB_PATH)")
        parser.add_argument("--secret-key", help="root secret (OCTASKLY_SECRET_KEY)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make one after the other; exit with 1 when one cannot be made."""
        folder = env.db_path().parent
        if not folder.is_dir():
            self.stderr.write(f"octaskly: there is no folder {folder}; start the dispatcher once first")
            sys.exit(1)
        shelf = Shelf(folder / BUNDLES_FOLDER)
        failures = 0
        for platform in options["platform"]:
            for python in options["python"]:
                try:
                    versions = installed_versions()
                    shelf.put(wheels.tag_of(python, platform), versions, wheels.fetch(python, platform, versions))
                except (CannotBundle, OSError) as error:
                    self.stderr.write(f"octaskly: {error}")
                    failures += 1
                else:
                    self.stdout.write(wheels.tag_of(python, platform))
        sys.exit(1 if failures else 0)
