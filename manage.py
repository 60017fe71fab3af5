#!/usr/bin/env python
"""Django's entry. Reads the two flags that settings depend on before Django starts."""

from __future__ import annotations

import os
import sys

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Must come before anything that loads OpenSSL.


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")
    from octaskly_site.env import ConfigurationError, export_early_flags

    try:
        export_early_flags(sys.argv)
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        print(f"octaskly: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
