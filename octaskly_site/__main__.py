"""`python -m octaskly_site COMMAND`: every management command, in a clone (`manage.py`) and where there is none."""

from __future__ import annotations

import os
import sys

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Must come before anything that loads OpenSSL.


def main(argv: list[str]) -> None:
    """Run one management command. Two flags, on which settings depend, are read before Django starts."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")
    from octaskly_site.env import ConfigurationError, export_early_flags

    try:
        export_early_flags(argv)
        from django.core.management import execute_from_command_line

        execute_from_command_line(argv)
    except ConfigurationError as error:
        print(f"octaskly: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(["octaskly manage", *sys.argv[1:]])
