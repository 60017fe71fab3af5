"""A process of its own that tries passwords on a database: `python -m tests.support.guesser NAME ADDRESS PASSWORD...`.

Prints a line for each: `right`, `wrong`, or `locked` with the seconds that it is told to wait.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import django
from django.conf import settings


def main(name: str, address: str, passwords: list[str]) -> None:
    """Try them one after another, each as soon as a line comes in."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")
    django.setup()
    from accounts_app.backends import GuardedModelBackend  # Only now: settings are read once.
    from accounts_app.lockout import SignInLocked
    from tests.support.quick_passwords import QUICK_HASHERS

    settings.PASSWORD_HASHERS = QUICK_HASHERS

    request = SimpleNamespace(META={"REMOTE_ADDR": address})
    say("ready")
    sys.stdin.readline()
    for password in passwords:
        try:
            user = GuardedModelBackend().authenticate(request, name, password)
            say("wrong" if user is None else "right")
        except SignInLocked as refusal:
            say(f"locked {refusal.wait_s}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
