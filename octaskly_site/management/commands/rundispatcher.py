"""`manage.py rundispatcher`: options -> composition."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from octaskly_site import composition, logs
from octaskly_site.env import ConfigurationError
from octaskly_site.options import add_arguments, read_options


class Command(BaseCommand):
    """Run the dispatcher: listeners, scheduler, mDNS and web server in one process."""

    help = "Run the dispatcher: P2P listener, scheduler, mDNS and the web server in one process."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Show itself as it is called where there is no manage.py."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        if prog_name == "octaskly manage":
            parser.prog = "octaskly dispatcher"
        return parser

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags of the contract."""
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped and exit with 0, 1 or 2."""
        try:
            logs.set_up(as_json=options["log_json"])
            code = composition.run(read_options(options))
        except ConfigurationError as error:
            self.stderr.write(f"octaskly: {error}")
            code = error.exit_code
        sys.exit(code)
