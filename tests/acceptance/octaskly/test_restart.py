"""What a command that is under way sees of a dispatcher that dies: a pause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.octaskly.shell import Shell
from tests.support.cluster import ADMIN_PASSWORD, Cluster


@pytest.fixture
def own(new_cluster: Callable[..., Cluster], tmp_path: Path) -> tuple[Cluster, Shell]:
    """A cluster that may die, and a shell that is signed in."""
    cluster = new_cluster()
    cluster.start_dispatcher()
    cluster.start_worker("w1")
    cluster.wait_connected("w1")
    shell = Shell(tmp_path / "home", tmp_path / "here", cluster.url)
    shell.says("login", "-u", "admin", stdin=ADMIN_PASSWORD.encode() + b"\n")
    return cluster, shell


def test_run_goes_on_where_it_was(own) -> None:
    """No line twice, none missing, and the command's own exit code; its map goes on, too."""
    cluster, shell = own
    counting = "for i in $(seq 1 25); do echo $i; sleep 0.2; done; exit 5"
    with shell.start("run", counting) as run, shell.start("map", "-k", "sleep 4; exit", ":::", "0", "3") as mapped:
        assert run.stdout.readline() == b"1\n"
        cluster.dispatcher.kill()
        cluster.start_dispatcher()
        out, err = run.communicate(timeout=60)
        assert (run.returncode, out.split()) == (5, [b"%d" % number for number in range(2, 26)]), err
        assert mapped.wait(60) == 1
