"""Makes a bundle: one zip with the worker and all that it imports, for one kind of Python."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Final

from octaskly_wire import __version__

SOURCES: Final = Path(__file__).resolve().parents[2]
OWN_PACKAGES: Final = ("octaskly_quic", "octaskly_wire", "worker_node")
THIRD_PARTY: Final = ("aioquic", "cryptography", "msgspec", "psutil", "zeroconf")
"""What those packages import; requirements-worker.txt says the same."""

DISPENSABLE: Final = ("aioquic",)
"""A worker without it speaks TCP only."""

MANIFEST: Final = "MANIFEST.json"
MAIN: Final = """import runpy

runpy.run_module("worker_node", run_name="__main__", alter_sys=True)
"""
"""Python runs a folder with this in it as a program. It must load no OpenSSL: the worker pins its cipher first."""

_OLD_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The same contents give the same zip."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


class CannotBundle(Exception):
    """This installation does not know its own files."""


@cache
def own_files() -> Mapping[str, bytes]:
    """Return our packages as they stand in a bundle."""
    files = {
        str(path.relative_to(SOURCES).as_posix()): path.read_bytes()
        for package in OWN_PACKAGES
        for path in sorted((SOURCES / package).rglob("*"))
        if path.is_file() and path.suffix in {".py", ".cnf", ".typed"}
    }
    return {"__main__.py": MAIN.encode(), **files}


@cache
def own_digest() -> str:
    """Return what changes with any of our files."""
    digest = sha256()
    for name, data in sorted(own_files().items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Return the packages that the worker needs here, with those that they need, by name."""
    found: dict[str, str] = {}
    wanted = list(THIRD_PARTY)
    while wanted:
        name = wanted.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # Asked for on other systems or by an extra only: what is needed here has been installed with the rest.
            if name in THIRD_PARTY and name not in DISPENSABLE:
                raise CannotBundle(f"{name} is not installed") from None
            continue
        if name not in found:
            found[name] = distribution.version
            needs = (need for need in distribution.requires or () if "extra ==" not in need)
            wanted += [match[0] for need in needs if (match := _NAME.match(need))]
    return dict(sorted(found.items()))


def installed_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of those packages as they are installed here; raises CannotBundle."""
    for name in installed_versions():
        files = metadata.distribution(name).files
        if files is None:
            raise CannotBundle(f"the installation of {name} keeps no list of its files")
        for file in files:
            # No commands, which lie outside, and nothing that Python makes by itself.
            if ".." not in file.parts and "__pycache__" not in file.parts and file.name != "RECORD":
                yield file.as_posix(), Path(str(file.locate())).read_bytes()


def files_of_wheel(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files that installing a wheel would put among the packages."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = name.split("/")
            if parts[0].endswith(".data"):  # `platlib` and `purelib` go among the packages, commands do not.
                if parts[1] not in {"platlib", "purelib"}:
                    continue
                parts = parts[2:]
            if not name.endswith("/") and parts[-1] != "RECORD":
                yield "/".join(parts), archive.read(name)


def versions_in(bundle: Path) -> dict[str, str]:
    """Return the third-party packages in a bundle; raises CannotBundle when it is none."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            return dict(json.loads(archive.read(MANIFEST))["packages"])
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CannotBundle(f"{bundle} is no worker bundle: {error}") from error


def third_party_of(bundle: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what in a bundle is not ours, so that a new version of ours can go beside it."""
    with zipfile.ZipFile(bundle) as archive:
        for name in archive.namelist():
            if name not in {MANIFEST, "__main__.py"} and name.split("/")[0] not in OWN_PACKAGES:
                yield name, archive.read(name)


def write_bundle(path: Path, tag: str, versions: Mapping[str, str], third_party: Iterator[tuple[str, bytes]]) -> str:
    """Write a bundle and return the SHA-256 of the zip."""
    files = {**dict(third_party), **own_files()}
    manifest = {
        "version": __version__,
        "tag": tag,
        "packages": dict(versions),
        "sha256": {name: sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _OLD_DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return sha256(path.read_bytes()).hexdigest()
