"""Fetches what the worker imports for other kinds of Python, at the versions that are installed here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from octaskly_site.join.bundle import CannotBundle, files_of_wheel

_GLIBC: Final = (
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_26",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
)
PLATFORMS: Final[Mapping[str, tuple[str, ...]]] = {
    "linux-x86_64": tuple(f"{name}_x86_64" for name in _GLIBC),
    "linux-aarch64": tuple(f"{name}_aarch64" for name in _GLIBC),
    "musllinux-x86_64": ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
    "musllinux-aarch64": ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64"),
    "macos-arm64": ("macosx_14_0_arm64",),
    "macos-x86_64": ("macosx_14_0_x86_64",),
    "windows-x86_64": ("win_amd64",),
}
"""Pip's names for each of ours. Glibc 2.28 is that of Debian 10 and RHEL 8; pip knows older macOS systems by itself."""

PYTHONS: Final = ("3.11", "3.12", "3.13")


def tag_of(python: str, platform: str) -> str:
    """Return the tag of a bundle."""
    return f"cp{python.replace('.', '')}-{platform}"


def fetch(python: str, platform: str, versions: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of these packages for that Python; raises CannotBundle with pip's last words."""
    with tempfile.TemporaryDirectory(prefix="octaskly-wheels-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        # Everything is named: pip would look at what this machine needs, not at what that one does.
        command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        command += [f"--platform={name}" for name in PLATFORMS[platform]]
        command += ["--dest", folder, *(f"{name}=={version}" for name, version in versions.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing of others in it
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise CannotBundle(f"{tag_of(python, platform)}: {reason}")
        for wheel in sorted(Path(folder).glob("*.whl")):
            yield from files_of_wheel(wheel)
