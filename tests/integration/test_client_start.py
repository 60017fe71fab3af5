"""The command line starts lean: what a command does not need is not loaded for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.programs import ROOT, clean_environment

PRINT_LOADED = """
import sys
from octaskly.__main__ import main
code = main(sys.argv[1:])
print("loaded", *sorted({name.partition(".")[0] for name in sys.modules} & {"httpx", "rich", "asyncio", "cryptography"}))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], []),
        (["run", "--help"], ["asyncio"]),
        (["completion", "bash"], []),
        (["map", "--dry-run", "x", ":::", "1"], ["asyncio"]),
    ],
)
def test_only_what_is_needed_is_loaded(tmp_path, arguments, loaded) -> None:
    """Help and completion, which a shell asks for at each key, load neither HTTP nor tables."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_LOADED, *arguments],
        check=True,
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1].split() == ["loaded", *loaded]


def test_the_package_offers_its_names_without_loading_them(tmp_path) -> None:
    """The programs below it pin OpenSSL before anything loads it."""
    script = (
        "import sys, octaskly; assert 'Client' in dir(octaskly); print('ssl' in sys.modules, octaskly.Client.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "False Client\n"
