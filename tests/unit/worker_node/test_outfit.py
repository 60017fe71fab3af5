"""What a supervisor has is no command's: neither by inheritance nor by what survives exec."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

ROOT = Path(__file__).parents[3]
SUPERVISOR = """
import os, sys
sys.path.append(".")
from worker_node.sandbox.outfit import Outfit
plan = {
    "rlimits": {}, "no_new_privileges": True, "workspace": "/", "oom_score_adj": 0, "env": {},
    "argv": ["/bin/sh", "-c", "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status"],
}
read, write = os.pipe()
os.waitpid(Outfit(plan, 61_234, os.getppid()).launch(plan, write, write), 0)
print(os.read(read, 4096).decode())
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
def test_a_root_workers_ambient_capabilities_end_with_it():
    """They outlive exec, and a change of user that keeps root as the saved one."""
    capabilities = ["--inh-caps", "+chown", "--ambient-caps", "+chown"]
    command = ["setpriv", *capabilities, sys.executable, "-c", SUPERVISOR]
    words = subprocess.check_output(command, cwd=ROOT, text=True).split()
    assert {name: int(value, 16) for name, value in zip(words[::2], words[1::2], strict=True)} == {
        "CapPrm:": 0,
        "CapEff:": 0,
        "CapAmb:": 0,
    }
