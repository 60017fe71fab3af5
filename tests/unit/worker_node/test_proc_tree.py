"""What a supervisor knows of its children without waiting for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker_node.sandbox import proc_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

ROOT = Path(__file__).parents[3]
SUPERVISOR = """
import os, sys
sys.path.append(".")
from worker_node.sandbox import kernel, proc_tree
kernel.adopt_orphans()
children = proc_tree.open_own_children()
if children is None:
    sys.exit("unlisted")
seen = [proc_tree.is_childless(children)]
read, write = os.pipe()
main = os.posix_spawn("/bin/sh", ["sh", "-c", "setsid sleep 60 & echo $!"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
os.waitid(os.P_PID, main, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
seen.append(proc_tree.is_childless(children))
os.waitpid(main, 0)
seen.append(proc_tree.is_childless(children))  # its orphan
orphan = int(os.read(read, 64))
os.kill(orphan, 9)
os.waitpid(orphan, 0)
seen.append(proc_tree.is_childless(children))
print(seen)
"""


def test_childless_is_who_has_neither_a_dead_child_nor_an_orphan_of_one():
    """As the end of an attempt is told by it, nobody may be overlooked."""
    done = subprocess.run([sys.executable, "-c", SUPERVISOR], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.stderr.strip() == "unlisted":
        pytest.skip("this kernel does not list children")
    assert done.stdout.strip() == "[True, False, False, True]", done.stderr


def test_where_the_kernel_lists_no_children_nobody_is_called_childless(monkeypatch):
    """Then waiting has to tell."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 0)  # nobody's number
        own_children = proc_tree.open_own_children()
    assert own_children is None
    assert not proc_tree.is_childless(own_children)


def test_a_list_that_cannot_be_read_tells_nothing():
    """Memory for it may be lacking when a command has used up its share."""
    assert not proc_tree.is_childless(-1)
