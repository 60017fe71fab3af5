"""Inputs and outputs at every level, by a worker that is root and by one that is not: what comes in, and what never comes out."""

from __future__ import annotations

import sys

import pytest

from octaskly_wire.vocabulary import SandboxLevel
from tests.support import levels
from tests.support.file_scenes import HOSTILE, attack, repeat, stage
from tests.support.other_user import NoOtherUser, as_ordinary_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

USERS = ["this user", "an ordinary user"]
SCENES = "tests.support.file_scenes"
STAGED = {"plain": True, "out/copy.txt": True, "out/big": True, "big": True}


def run(scene, user: str, level: SandboxLevel):
    """Run a scene as a user, or skip with the reason."""
    levels.need(level)
    if user == "this user":
        return scene(level)
    try:
        return as_ordinary_user(f"{SCENES}:{scene.__name__}", level)
    except NoOtherUser as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("level", list(SandboxLevel))
def test_inputs_are_there_to_be_read_and_outputs_come_back_as_they_are(user, level):
    """Also an input that is an output, more input than the disk limit has, and what is there of a failed command."""
    seen = run(stage, user, level)
    assert seen["stdout"] == "small\nread-only\n"
    assert (seen["reason"], seen["detail"], seen["files"]) == ("", "", STAGED)
    assert (seen["cached"], seen["fetches"]) == ("small\n", 2)
    missing = seen["missing"]
    assert (missing["reason"], missing["exit_code"], missing["files"]) == ("missing_output", 0, {"there": True})
    assert missing["detail"] == "missing: not/there does not exist; *.none (nothing matches)"
    failed = seen["failed"]
    assert (failed["reason"], failed["exit_code"], failed["files"]) == ("exit_code", 3, {"there": True})
    assert seen["left"] == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("level", [SandboxLevel.STRICT, SandboxLevel.VERY_STRICT])
def test_a_worker_that_collects_for_ever_holds_nothing(user, level):
    """Whatever was opened to keep a folder or to read it is closed, also after a failure and a cancel."""
    counts = run(repeat, user, level)
    assert max(counts[2:]) <= counts[1]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("level", list(SandboxLevel))
def test_no_hostile_output_is_collected(user, level):
    """Not one byte, whatever stands in the output's place; each attempt ends and says why."""
    seen = run(attack, user, level)
    assert seen.keys() == HOSTILE.keys()
    collected = {name: verdict for name, verdict in seen.items() if verdict["files"]}
    assert collected == {}
    assert {verdict["reason"] for verdict in seen.values()} == {"missing_output", "staging"}
    assert all(verdict["detail"] for verdict in seen.values())
