"""The door to an ordinary user, through which other tests go."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.other_user import NoOtherUser, as_ordinary_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="users are changed as on Linux")


def call(name: str, *arguments):
    """Call a function of this file as an ordinary user, or skip with the reason."""
    try:
        return as_ordinary_user(f"tests.integration.test_other_user:{name}", *arguments)
    except NoOtherUser as reason:
        pytest.skip(str(reason))


def rights() -> dict[str, object]:
    """Tell what this process may do."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    folder = Path(tempfile.mkdtemp())
    Path(folder, "file").touch()
    return {
        "ids": sorted({*map(int, status["Uid"].split()), *map(int, status["Gid"].split())}),
        "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
        "owns_itself": Path("/proc/self/environ").stat().st_uid == os.geteuid(),
        "may_read_shadow": os.access("/etc/shadow", os.R_OK),
        "folder": str(folder),
    }


def fail(words: str) -> None:
    """Raise what a broken test would."""
    raise RuntimeError(words)


def test_the_function_has_no_rights_of_root():
    """No id of root, no capability, a process and a temporary folder of its own."""
    seen = call("rights")
    assert 0 not in seen["ids"]
    assert (seen["capabilities"], seen["owns_itself"], seen["may_read_shadow"]) == (0, True, False)


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="without root the function is called directly")
def test_its_temporary_folder_is_gone_afterwards():
    """The user leaves nothing behind."""
    assert not Path(call("rights")["folder"]).exists()


def test_an_exception_fails_the_caller_with_its_text():
    """What went wrong over there is told here."""
    with pytest.raises((AssertionError, RuntimeError), match="seventeen"):
        call("fail", "seventeen")
