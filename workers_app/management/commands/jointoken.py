"""`manage.py jointoken`: prints one join token on stdout and nothing else there; the whole line goes to stderr."""

from __future__ import annotations

import argparse
import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from accounts_app.database_flags import add_database_flags, existing_database
from octaskly_wire.address import NoAddress, parse_host_port
from octaskly_wire.limits import DEFAULT_PORT
from workers_app.services import WrongSecretKey, create_join_token, join_line

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> int:
    """Return the seconds in a text like `90`, `30m`, `1h`, `7d`."""
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90, 30m, 1h or 7d")
    return int(match[1]) * UNITS[match[2]]


def address(text: str) -> str:
    """Return a HOST or HOST:PORT with its port."""
    try:
        return str(parse_host_port(text, DEFAULT_PORT))
    except NoAddress as error:
        raise argparse.ArgumentTypeError(f"{error}; write an IPv6 address in brackets") from None


class Command(BaseCommand):
    """Make a join token."""

    help = "Print one join token on stdout. With it another machine joins this cluster."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        parser.add_argument("--uses", type=int, default=1, help="how many machines may join with it (default 1)")
        parser.add_argument("--ttl", type=duration, default=3600, help="how long it is good: 30m, 1h, 7d (default 1h)")
        parser.add_argument("--auto-approve", action="store_true", help="joining machines get tasks without approval")
        parser.add_argument(
            "--address",
            type=address,
            metavar="HOST[:PORT]",
            help="where the joining machine reaches the dispatcher (default: as it was last started)",
        )
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token."""
        path = existing_database()
        try:
            token = create_join_token(
                uses=options["uses"], ttl_s=options["ttl"], auto_approve=options["auto_approve"], actor=None
            )
            line = join_line(token, options["address"] or "")
        except ValueError as error:
            raise CommandError(f"--{str(error).replace('ttl_s', 'ttl')}", returncode=2) from error
        except WrongSecretKey as error:
            raise CommandError(f"--secret-key: {error}") from error
        except DatabaseError as error:
            raise CommandError(f"{path} is no usable database ({error}); start the dispatcher once first") from error
        self.stdout.write(token)
        self.stderr.write(f"To join a machine, run there:\n  {line}")
