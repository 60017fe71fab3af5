"""The wheel, installed into an empty environment far from the clone, is the whole product."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.programs import ROOT, Program

PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
CARRIED = {".py", ".html", ".cnf", ".typed", ".sh", ".ps1", ".js", ".css", ".svg", ""}
"""Kinds of files that our packages hold; a new kind is to be looked at here. Without any: a LICENSE of somebody else's."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `make dist` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(build, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = folder.glob("octaskly-*.whl")
    return wheel


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel, and with our own environment's requirements."""
    place = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=120)
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_wheel_carries_every_file_of_the_packages_and_no_tests(wheel: Path) -> None:
    """Code, migrations, templates, scripts, styles and OpenSSL's configuration are in it, and nothing else."""
    carried = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert carried == ours
    assert {Path(name).suffix for name in carried} == CARRIED
    assert {Path(name).name for name in carried if not Path(name).suffix} == {"LICENSE"}
    assert {"octaskly_wire/openssl.cnf", "tasks_app/migrations/0001_initial.py"} <= carried


def test_the_installed_worker_proves_its_levels(programs: Path, tmp_path: Path) -> None:
    """`octaskly worker --check` runs its attacks from the installed package."""
    assert "very_strict" in _run(programs, tmp_path, "worker", "--check")


def test_the_installed_help_names_the_programs(programs: Path, tmp_path: Path) -> None:
    """`octaskly --help` shows what there is to call, and the dispatcher's own help its flags."""
    shown = _run(programs, tmp_path, "--help")
    assert all(name in shown for name in ("dispatcher", "worker", "manage", "run"))
    assert "usage: octaskly dispatcher" in _run(programs, tmp_path, "dispatcher", "--help")


def test_the_installed_dispatcher_runs_a_task_on_its_worker(
    programs: Path, new_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """`octaskly dispatcher --with-worker` keeps its data where it is started, where management commands find it.

    It also has what it gives to machines that join, and its pages have their scripts, which browsers ask for anew.
    """
    cluster = new_cluster()
    del cluster.environment["OCTASKLY_DB_PATH"]
    command = [str(programs / "octaskly"), "dispatcher", "--with-worker", "--no-mdns", "--bind", "127.0.0.1"]
    command += ["--port", str(cluster.port), "--api-port", str(cluster.api_port)]
    cluster.dispatcher = Program("installed", command, cluster.folder, cluster.environment, cwd=cluster.folder)
    cluster.programs.append(cluster.dispatcher)
    cluster.wait_healthy()
    cluster.api.login("admin", ADMIN_PASSWORD)

    [task] = cluster.wait_ended(cluster.api.submit("echo $((6 * 7))"))

    assert (task["status"], task["stdout"]) == ("completed", "42\n")
    assert cluster.db_path.exists()
    scripts = set(re.findall(r'<script src="(/static/[^"]+)"', cluster.api.http.get("/login/").text))
    assert scripts
    for script in scripts:
        answer = cluster.api.http.get(script)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "max-age=0, public"), script
        again = cluster.api.http.get(script, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
    [tag] = re.findall(r"^OFFERED='([^']+)'$", cluster.api.http.get("/join.sh").text, re.MULTILINE)
    bundle = cluster.api.http.get(f"/worker/{tag}.zip")
    assert bundle.is_success
    assert {"worker_node/node.py", "octaskly_wire/openssl.cnf"} <= set(ZipFile(BytesIO(bundle.content)).namelist())
    code = [str(programs / "python"), "-c", "import octaskly_site as site; print(site.__file__)"]
    where = subprocess.run(code, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert where.startswith(str(programs.parent))
    manage = [str(programs / "octaskly"), "manage", "auditverify"]
    checked = subprocess.run(
        manage, check=False, cwd=cluster.folder, env=cluster.environment, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr
    assert cluster.dispatcher.stop() == 0


def _run(programs: Path, cwd: Path, *arguments: str) -> str:
    """Return what the console script prints, away from the clone."""
    done = subprocess.run(
        [str(programs / "octaskly"), *arguments], check=False, cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
