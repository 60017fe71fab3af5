"""A real Chromium for what looks at the pages: found on this machine, never downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoChromium(Exception):
    """There is none on this machine; the message says where it was looked for."""


def find() -> str:
    """Return the path of a Chromium: $OCTASKLY_CHROMIUM, else the first of its usual names. Raises NoChromium."""
    if named := os.environ.get("OCTASKLY_CHROMIUM"):
        return named
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise NoChromium(f"no Chromium: neither $OCTASKLY_CHROMIUM nor {', '.join(NAMES)} on the path")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium. Raises NoChromium.

    Its own sandbox is off for root only, whom it refuses to serve otherwise.
    """
    path = find()
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()
