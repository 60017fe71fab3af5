"""Turns every path and secret to a temporary folder before Django's settings are read, and shares the fixtures."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from octaskly_wire.cipher_pin import pin_cipher_suite
from tests.support import open_folder as open_folders
from tests.support.transports import transport  # noqa: F401 - a fixture

pin_cipher_suite()


def _isolate_environment() -> None:
    # The processes of pytest-xdist inherit what the first one set up.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    for name in [name for name in os.environ if name.startswith("OCTASKLY_") or name == "RUST_LOG"]:
        if name != "OCTASKLY_CHROMIUM":  # Which browser to look with is no setting of what is tested.
            del os.environ[name]
    folder = tempfile.mkdtemp(prefix="octaskly-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["OCTASKLY_DB_PATH"] = str(Path(folder, "octaskly.db"))
    os.environ["OCTASKLY_SECRET_KEY"] = "a secret for the tests only"
    os.environ["DJANGO_SETTINGS_MODULE"] = "octaskly_site.settings"


_isolate_environment()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script: all programs that the tests start would be deaf to Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

django.setup()  # Only now: settings read the environment once.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A fresh folder outside of `tmp_path` in which commands of every user may write."""
    with open_folders.open_folder() as folder:
        yield folder
