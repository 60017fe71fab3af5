"""The worker on other systems: it loads, plans and says honestly what does not hold, without what only Linux has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PRETEND = """
import sys
before = sys.platform
import asyncio, importlib, os, signal, socket, ssl, subprocess, tempfile, zoneinfo
import msgspec, psutil, zeroconf, zeroconf.asyncio
import cryptography.x509, cryptography.hazmat.primitives.asymmetric.ed25519
system = sys.argv[1]
sys.platform = system
for name in ("fcntl", "resource") if system == "win32" else ():
    sys.modules[name] = None
for name in ("fork", "setsid", "getuid", "geteuid", "setresuid", "memfd_create", "posix_spawn", "statvfs"):
    if system == "win32" or name in ("setresuid", "memfd_create"):
        if hasattr(os, name):
            delattr(os, name)
for name in ("SIGKILL", "SIGCHLD", "SIGHUP") if system == "win32" else ():
    delattr(signal, name)
import worker_node.node
from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.limit_flags import NO_SETTINGS
from worker_node.sandbox import probe
from worker_node.sandbox.gaps import gaps_of
from worker_node.sandbox.policy import HostFacts, plan_attempt

class Host:
    facts = HostFacts()

for level in SandboxLevel:
    backend = probe.backend_for(level, Host())
    if backend is None:
        print(level, "-", probe.why_not_tried(level))
        continue
    assignment = AssignAttempt(
        attempt_id="a.1", task_id="a", command="true", timeout_s=1, sandbox=level, allows_network=False
    )
    plan = plan_attempt(assignment, backend, "/somewhere/a", {}, Host.facts, NO_SETTINGS)
    print(level, backend, len(plan.terms.enforcement), "|".join(gaps_of(level, backend, Host.facts)))
sys.platform = before
"""


def seen_on(system: str) -> dict[str, str]:
    """Return what a worker on such a system says of each level."""
    done = subprocess.run(
        [sys.executable, "-c", PRETEND, system], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="pretends to be Windows")
def test_windows_offers_none_and_claims_no_limits():
    """Without Job Objects and namespaces there is nothing more to offer."""
    said = seen_on("win32")
    assert said["none"].startswith("windows-tree 0 ")
    assert "limits: not kept on this system" in said["none"]
    assert "Job Objects" in said["basic"]
    assert said["strict"] == said["very_strict"] == "- needs namespaces and system call filters, which only Linux has"


@pytest.mark.skipif(sys.platform == "win32", reason="the other pretence needs a POSIX system")
def test_macos_offers_none_and_basic_and_claims_no_limits():
    """A process group is all there is."""
    said = seen_on("darwin")
    for level in ("none", "basic"):
        assert said[level].startswith("posix-group 0 ")
        assert "a daemon that leaves its process group survives" in said[level]
    assert said["strict"] == said["very_strict"] == "- needs namespaces and system call filters, which only Linux has"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc")
def test_a_worker_loads_nothing_that_it_has_no_use_for():
    """Idle workers are to be small. mDNS, QUIC and psutil are loaded where they are needed, and so are the compressors."""
    scene = (
        "import sys; from worker_node import config, node; config.parse(['--dispatcher-addr', '127.0.0.1:5555'], {});"
        "print({'zeroconf', 'aioquic', 'psutil', 'bz2', 'lzma', 'worker_node.sandbox.supervisor'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", scene], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "set()\n", done.stderr or done.stdout
