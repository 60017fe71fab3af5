"""Bundles and join scripts, made from what is installed here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from octaskly_site.join import bundle, installer, target_tag
from octaskly_site.join.content import JoinContent
from octaskly_site.join.shelf import Shelf
from tests.support.programs import ROOT

PIN = "sha256//" + "A" * 43 + "="
OTHER_TAG = "cp312-linux-aarch64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of bundles with that of this Python in it."""
    folder = tmp_path_factory.mktemp("data") / "bundles"
    assert Shelf(folder).path_of(target_tag.own_tag())
    return folder


@pytest.fixture
def content(folder: Path) -> JoinContent:
    """What the door shows."""
    return JoinContent(Shelf(folder), PIN)


def test_a_bundle_is_a_worker(folder: Path, tmp_path: Path) -> None:
    """Unpacked anywhere it runs and speaks QUIC, with nothing of this installation; its manifest has each digest."""
    with zipfile.ZipFile(folder / f"{target_tag.own_tag()}.zip") as archive:
        archive.extractall(tmp_path)
    manifest = json.loads((tmp_path / "MANIFEST.json").read_text())
    assert all(
        sha256((tmp_path / name).read_bytes()).hexdigest() == digest for name, digest in manifest["sha256"].items()
    )
    alone = "import runpy, sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
    speaks_quic = "sys.path.insert(0, sys.argv[1]); import octaskly_quic.dialing; "
    runs = "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", alone + speaks_quic + runs, str(tmp_path), "--version"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert (done.returncode, done.stdout) == (0, f"octaskly worker {manifest['version']}\n"), done.stderr


def test_a_bundle_has_what_the_worker_requires(folder: Path) -> None:
    """The names in requirements-worker.txt, and what those need in turn."""
    lines = (ROOT / "requirements-worker.txt").read_text().splitlines()
    assert {line.partition(">")[0] for line in lines if not line.startswith("#")} == set(bundle.THIRD_PARTY)
    assert {"cffi", "ifaddr", *bundle.THIRD_PARTY} <= set(bundle.installed_versions())


def test_bundles_are_kept_and_made_anew_when_our_code_changes(folder: Path, tmp_path: Path) -> None:
    """The same contents give the same digest; another kind's bundle keeps its packages and gets our new code."""
    shelf = Shelf(tmp_path)
    own = target_tag.own_tag()
    shutil.copy2(folder / f"{own}.zip", tmp_path / f"{own}.zip")
    shutil.copy2(folder / f"{own}.json", tmp_path / f"{own}.json")
    before = (tmp_path / f"{own}.zip").stat().st_ino
    assert shelf.offer() == Shelf(folder).offer()
    assert (tmp_path / f"{own}.zip").stat().st_ino == before

    label = shelf.put(OTHER_TAG, {"cffi": "1.0"}, iter([("cffi/__init__.py", b"other"), ("worker_node/old.py", b"")]))
    assert set(shelf.offer()) == {own, OTHER_TAG}
    path = tmp_path / f"{OTHER_TAG}.json"
    path.write_text(path.read_text().replace(label.own_digest, "0" * 64))
    renewed = shelf.path_of(OTHER_TAG)
    assert renewed
    with zipfile.ZipFile(renewed) as archive:
        assert archive.read("cffi/__init__.py") == b"other"
        assert "worker_node/old.py" not in archive.namelist()
        assert "worker_node/__main__.py" in archive.namelist()
    assert path.read_text().count(label.own_digest) == 1
    assert shelf.path_of("cp399-linux-x86_64") is None
    assert shelf.path_of("../bundles") is None


def test_a_damaged_bundle_is_not_offered(tmp_path: Path) -> None:
    """What a crash or a bad copy left is made anew where it can be, and else left out."""
    for tag in (target_tag.own_tag(), OTHER_TAG):
        (tmp_path / f"{tag}.zip").write_bytes(b"PK")
        (tmp_path / f"{tag}.json").write_text("{}")
    assert set(Shelf(tmp_path).offer()) == {target_tag.own_tag()}


def test_the_scripts_tell_where_the_asker_came_to(content: JoinContent) -> None:
    """At the door that is the Host header; at the web server it is the workers' port of the same host."""
    digest = sha256(
        (answer := content.at_door(f"/worker/{target_tag.own_tag()}.zip", "x")).body.read_bytes()
    ).hexdigest()
    assert answer.content_type == "application/zip"
    for name in ("/join.sh", "/join.ps1"):
        at_door = content.at_door(name, "pc.lan:7777").body.decode()
        at_web = content.at_web(name, "[::1]:3000", 5555).body.decode()
        assert '"address": "pc.lan:7777"' in at_door
        assert '"address": "[::1]:5555"' in at_web
        assert digest in at_door
        assert PIN in at_door
        assert not re.search("@[A-Z_]+@", at_door)


@pytest.mark.parametrize("host", ["", "a'b", "$(reboot)", "x y", "[fe80::1%';x;']", "a:b", "x\r\ny"])
def test_nothing_unchecked_of_a_request_gets_into_a_script(content: JoinContent, host: str) -> None:
    """A Host header that is no address has no script."""
    assert content.at_door("/join.sh", host) is None
    assert content.at_web("/join.ps1", host, 5555) is None


@pytest.mark.parametrize(
    "path", ["/", "/health", "/join.sh/", "/worker/..%2f.zip", "/worker/x.zip", "/worker/../x.zip"]
)
def test_there_is_nothing_else(content: JoinContent, path: str) -> None:
    """No other path, and no way out of the folder."""
    assert content.at_door(path, "x") is None


@pytest.mark.parametrize("shell", ["dash", "bash", "sh"])
def test_the_script_is_good_shell(content: JoinContent, shell: str) -> None:
    """A shell without extensions reads it; half of it, as of a broken download, does nothing."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    script = content.at_door("/join.sh", "x").body
    assert subprocess.run([shell, "-n"], input=script, check=False).returncode == 0
    half = subprocess.run([shell], input=script[: len(script) * 3 // 4], capture_output=True, check=False)
    assert half.returncode != 0
    assert half.stdout == b""


def test_the_unit_is_good_systemd(tmp_path: Path) -> None:
    """systemd itself finds nothing wrong with it, whatever characters the folder has."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    place = installer.Place(tmp_path / 'a b%$"x', tmp_path / "state")
    place.folder.mkdir()
    installer.write_launcher(place.launcher, ["true"])
    unit = tmp_path / installer.UNIT
    unit.write_text(installer.unit_text(place, is_of_machine=False))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=30, env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
